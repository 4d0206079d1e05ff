"""The base of models: specs that build a network from image shape and class count."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from trainables.core.errors import SpecError
from trainables.core.spec import Spec

if TYPE_CHECKING:
    from torch import nn


class Model(Spec):
    """Base of every model spec. The framework puts the normalisation layer in front."""

    kind: str
    normalise: bool = Field(default=True, description="normalise the images by the training split's mean and deviation")

    perceptron: ClassVar[bool] = False
    """Whether the network is linear layers with ReLU between them, on flattened images."""

    @property
    def hides_gradients(self) -> bool:
        """Whether attacks by gradients alone are known to measure too much of the network."""
        return False

    @abstractmethod
    def network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Build the network, freshly initialised: (N, *shape) normalised inputs to (N, classes) logits.

        Initial weights come from torch's CPU generator, which `trainables.models.build` has seeded. Raise SpecError if
        images of this shape do not fit and the message can be clearer than the network's own error in its first pass,
        which the framework reports otherwise.

        Raises:
            SpecError: the network cannot take images of this shape.
        """


def require_pixels(kind: str, shape: tuple[int, int, int], least: int) -> None:
    """Refuse images smaller than a net's poolings allow.

    Raises:
        SpecError: height or width is below `least`.
    """
    if min(shape[1:]) < least:
        raise SpecError(f"{kind} needs images of at least {least}x{least} pixels; these have {shape[1]}x{shape[2]}")
