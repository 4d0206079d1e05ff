"""What a mask update is: when masks change within a training, and how. Known as dynamic sparse training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from trainables.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave: robust accuracy on the images trained on; that and the mean loss on those held back."""

    epoch: float
    trained: float
    robust: float
    loss: float


@dataclass(frozen=True)
class MaskUpdateContext:
    """A training after one of its steps.

    `params` and `masks` are as they are now; `gradients` are those of the step, of pruned weights too, by prunable
    weight. `initial` is the sparsity that the training began with. `results` are those of its epochs so far, with
    `train.select` images held back; empty without. `generator` is the only source of randomness.

    Shapes: a mask (bool) and a gradient are shaped like the parameter of their name.
    """

    step: int
    steps: int
    params: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    initial: float
    results: Sequence[EpochResult]
    generator: torch.Generator


class MaskUpdate(Spec):
    """Base of every mask update. Steps count from 1 to all `steps` of a training.

    With `trains_pruned` pruned weights have values of their own, which the network does not use: 0 at first, trained by
    the gradients of the zeros in their place. `context.params` has these, and a weight that grows starts with its own.
    """

    trains_pruned: ClassVar[bool] = False
    kind: str

    @property
    def needs_held_back_images(self) -> bool:
        """Whether `context.results` are used, so that the training must have `select`."""
        return False

    def due(self, step: int, steps: int) -> bool:
        """Return whether masks change after this step."""
        return False

    def settled(self, step: int, steps: int) -> bool:
        """Return whether the network has its final sparsity after this step."""
        return True

    def check_length(self, steps: int, epochs: int) -> None:
        """Refuse a training that is too short for the update: one in which something it is set to never comes due.

        Raises:
            pydantic.ValidationError: names the field and the length.
        """

    @abstractmethod
    def masks(self, context: MaskUpdateContext) -> dict[str, Tensor]:
        """Return the masks of the steps to come, under all names of `context.masks`.

        The framework sets pruned weights to 0, also in the optimiser's state; weights that grow start at 0. With
        `trains_pruned` it leaves both alone, and the network alone has zeros.
        """


class Fixed(MaskUpdate):
    """The masks stay."""

    kind: Literal["fixed"] = "fixed"

    def masks(self, context: MaskUpdateContext) -> dict[str, Tensor]:
        return dict(context.masks)
