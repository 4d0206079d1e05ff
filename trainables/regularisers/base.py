"""What a regulariser is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainables.core.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


class Regulariser(Spec):
    """Base of every regulariser; `weight` 0 switches it off.

    `of` says what it is given: the prunable weights, or the scales of the batch norms.
    """

    kind: str
    weight: float = Field(ge=0)

    of: ClassVar[Literal["weights", "scales"]] = "weights"

    @abstractmethod
    def penalty(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the penalty, a scalar without the factor `weight`, over what it is given, by name."""
