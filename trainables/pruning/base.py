"""What a pruner is: scores per prunable weight; the framework cuts to the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.base import Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Scene:
    """What a pruner may look at: the prunable weights by name, their masks, and its generator."""

    weights: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    generator: torch.Generator


class Pruner(Spec):
    """Base of every pruner."""

    kind: str

    def scores(self, scene: Scene) -> dict[str, Tensor]:
        """Return a score for each weight, shaped like it; the lowest are cut, ties by index."""
        raise NotImplementedError
