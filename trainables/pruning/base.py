"""What a pruner is: scores per prunable weight; the framework cuts to the budget."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainables.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from trainables.pruning.network import Network


@dataclass(frozen=True)
class PrunerContext:
    """What a pruner may use; it must leave all of it as it was.

    `weights` are the prunable weights that may be cut, by name; `masks` are True where a weight is not pruned.
    `generator` is the only source of randomness.

    Shapes: a mask (bool) is shaped like the weight of its name.
    """

    weights: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    generator: torch.Generator
    view: Network | None = None

    @property
    def network(self) -> Network:
        """The network around the weights, with its training images.

        Raises:
            ValueError: the weights alone were given.
        """
        if self.view is None:
            raise ValueError("this pruner needs the network and its images, and was given weights alone")
        return self.view


class Pruner(Spec):
    """Base of every pruner; one that uses `context.network` sets `needs_network`."""

    kind: str

    needs_network: ClassVar[bool] = False

    def check(self, model: nn.Module, shape: tuple[int, int, int]) -> None:
        """Refuse a network of images of this shape that cannot be scored, before anything is trained.

        Raises:
            SpecError: with what is missing.
        """

    @abstractmethod
    def scores(self, context: PrunerContext) -> dict[str, Tensor]:
        """Return scores for each weight tensor, finite and shaped like it; the lowest are cut.

        Of equal scores the one of lower index is kept.
        """

    def sparsities(self, now: float, target: float) -> tuple[float, ...]:
        """Return the sparsities to cut to one after another, with new scores for each; the last is `target`."""
        return (target,)
