"""The scheduler `moasha`; its rule is in `search.early_stopping.halving`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from search.early_stopping.base import Scheduler, StoppingRule
from trainables.method.partial import PartialSchedule


class Moasha(Scheduler):
    """Asynchronous successive halving on several objectives.

    At each rung a trial stops unless it is among the best 1 / `eta` of the trials that reached the rung so far. Trials
    are compared at the sparsity of their last point. Constraints are ignored: early in training no network meets one.
    Source: Schmucker et al. 2021, arXiv:2106.12639.
    """

    kind: Literal["moasha"] = "moasha"
    rank: Literal["nondominated", "hypervolume"] = Field(
        default="nondominated",
        description="Order on a rung: `nondominated` by layers of non-dominated trials, and within a layer so "
        "that its first ones spread over it; `hypervolume` by layers, then by what a trial adds to its hypervolume.",
    )
    eta: float = Field(default=3, gt=1, le=1000, description="One in this many trials continues after a rung.")
    grace: int = Field(
        default=4,
        ge=1,
        description="Epochs that a trial trains itself before the first rung; each next is at `eta` times as many.",
    )
    max_rungs: int = Field(default=3, ge=1, le=32, description="Number of rungs.")
    examples: int = Field(default=128, gt=0, description="Validation examples of a partial measurement.")
    steps: int = Field(default=5, gt=0, description="Attack steps of a partial measurement.")

    @property
    def levels(self) -> tuple[int, ...]:
        """The epochs at which there is a rung, lowest first."""
        return tuple(sorted({round(self.grace * self.eta**k) for k in range(self.max_rungs)}))

    def build(self, objectives: Sequence[str], live: bool = True) -> StoppingRule:
        from search.early_stopping.halving import RANKINGS, MoashaRule

        return MoashaRule(objectives, self.levels, self.eta, RANKINGS[self.rank], live)

    def partial_schedule(self) -> PartialSchedule:
        return PartialSchedule(levels=self.levels, examples=self.examples, steps=self.steps)
