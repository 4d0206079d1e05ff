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
    """Base of every regulariser; `of` names its argument: the prunable weights, or the scales of batch norms."""

    kind: str
    weight: float = Field(ge=0, description="factor of the penalty in the loss; 0 switches it off")

    of: ClassVar[Literal["weights", "scales"]] = "weights"

    @abstractmethod
    def penalty(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the penalty of tensors by name, a scalar without the factor `weight`.

        Its gradient must be finite where tensors are 0.
        """
