"""Pruning by a share of each layer's remaining weights."""

from __future__ import annotations

from pydantic import Field

from trainables.core.spec import Spec


class Rates(Spec):
    """What a round cuts of each layer's remaining weights: round(rate * n) of n."""

    rate: float = Field(gt=0, lt=1, description="share of a layer's remaining weights that is cut")
    last: float = Field(ge=0, lt=1, description="the same for the last layer")
    one_more: bool = Field(default=False, description="cut one weight more in each layer")
    exact: bool = Field(
        default=False, description="cut to the phase's sparsity, the rates giving the layers' shares of what remains"
    )

    def left(self, living: int, *, last: bool) -> int:
        """Return how many of a layer's `living` weights remain, at least one."""
        gone = round((self.last if last else self.rate) * living) + self.one_more
        return max(living - gone, min(living, 1))
