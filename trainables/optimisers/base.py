"""What an optimiser is: a spec that builds torch's optimiser."""

from __future__ import annotations

import functools
import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from trainables.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import nn

Params = Iterable["nn.Parameter"] | list[dict[str, Any]]
"""Parameters, or torch's parameter groups."""


class Optimiser(Spec):
    """Base of every optimiser. The framework sets the learning rate before each step, and holds the masks.

    With `entrywise` a step changes each entry of a tensor by that entry and its own gradients alone, and entries of 0
    with gradients of 0 stay: filters that are pruned whole can then be left out of the tensors.
    """

    entrywise: ClassVar[bool] = False

    kind: str
    lr: float = Field(gt=0, description="the highest learning rate; the schedule multiplies it")
    weight_decay: float = Field(default=0.0, ge=0, description="weight decay of all parameters")

    @abstractmethod
    def build(self, params: Params) -> torch.optim.Optimizer:
        """Return torch's optimiser; its weight decay is for all parameters, biases and batch norm's too.

        All that it remembers between steps must be tensors in its `state`, by parameter: a checkpoint has those.
        """


@functools.cache
def eager(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """Return torch's optimiser without the marks for its compiler, which torch imports to set them.

    That takes as long as importing torch. Steps are the same to the bit: no gradients are recorded in them, as torch
    does where an optimiser is not `differentiable`.
    """
    import torch

    for method in vars(torch.optim.Optimizer).values():
        if plain := getattr(method, "__wrapped__", None):
            plain.__dynamo_disable = plain
    return type(kind.__name__, (kind,), {"step": torch.no_grad()(inspect.unwrap(kind.step))})
