"""Pruning by a share of what each layer has left."""

from __future__ import annotations

from pydantic import Field

from trainables.core.spec import Spec


class Rates(Spec):
    """What a round takes of each layer's remaining weights: `rate`, of the last layer `last`.

    Of n weights round(rate * n) go, with `one_more` one more. Where the rates are `exact` the layers' shares of what
    stays follow them, and the total is the phase's sparsity.
    """

    rate: float = Field(gt=0, lt=1)
    last: float = Field(ge=0, lt=1)
    one_more: bool = False
    exact: bool = False

    def left(self, living: int, *, last: bool) -> int:
        """Return how many of a layer's living weights stay, at least one."""
        gone = round((self.last if last else self.rate) * living) + self.one_more
        return max(living - gone, min(living, 1))
