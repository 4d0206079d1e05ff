"""What a regulariser is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from trainables.base import Spec

if TYPE_CHECKING:
    from torch import Tensor


class Regulariser(Spec):
    """Base of every regulariser; `weight` 0 switches it off."""

    kind: str
    weight: float = Field(ge=0)

    def penalty(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the penalty, a scalar without the factor `weight`, over the prunable weights by name."""
        raise NotImplementedError
