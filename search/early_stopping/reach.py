"""The scheduler `reach`; its rule is in `search.early_stopping.shortfall`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from search.early_stopping.base import Scheduler, StoppingRule
from trainables.method.partial import PartialSchedule


class Reach(Scheduler):
    """Stop a trial when its epochs to come are likely to be worth less than another trial's.

    The sparsities of the points to come are known. The shortfall of a trial against the others that were at the same
    stage predicts the probability that it reaches the front at each of these sparsities. The trial stops where the best
    of these probabilities is below `worth` times the mean of all trials that were at the stage, times the part of its
    epochs that is left.
    """

    kind: Literal["reach"] = "reach"
    worth: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="A trial stops where its epochs are worth less than this part of others'.",
    )
    evidence: int = Field(default=4, ge=1, description="Other trials that must have been at the same stage.")
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.05, 0.1, 0.25, 0.5), description="Shares of a training after which a partial measurement is taken."
    )
    least: int = Field(default=8, ge=1, description="Epochs of the shortest training with partial measurements.")
    examples: int = Field(default=128, gt=0, description="Validation examples of a partial measurement.")
    steps: int = Field(default=5, gt=0, description="Attack steps of a partial measurement.")

    def build(self, objectives: Sequence[str], live: bool = True) -> StoppingRule:
        from search.early_stopping.shortfall import ReachRule

        return ReachRule(objectives, self.worth, self.evidence, live)

    def partial_schedule(self) -> PartialSchedule:
        return PartialSchedule(shares=self.shares, least=self.least, examples=self.examples, steps=self.steps)
