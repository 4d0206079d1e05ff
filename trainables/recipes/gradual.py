"""Gradual magnitude pruning within one training."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainables.core.amounts import Interval
from trainables.mask_updates.gradual import Gradual as Rising
from trainables.mask_updates.gradual import check_pruning
from trainables.method.phases import Measure, Phase, Train
from trainables.pruning import Pruning
from trainables.recipes.base import Recipe, check_warmups


class Gradual(Recipe):
    """Train once, and prune during the training to a sparsity that rises by a cubic schedule.

    Source: Zhu & Gupta 2017, arXiv:1710.01878.
    """

    kind: Literal["gradual"] = "gradual"
    places: ClassVar[dict[str, tuple[str, ...]]] = {**Recipe.places, "rewiring": ()}
    begin: float = Field(default=0.0, ge=0, lt=1, description="part of the training after which pruning begins")
    end: float = Field(default=0.75, gt=0, le=1, description="part of the training after which the sparsity is reached")
    every: Interval = Field(
        default=0.01, description="steps between two prunings; below 1, a share of the steps of the training"
    )
    prune: Pruning = Field(default=Pruning(), description="how it is pruned")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_warmups(self.train, self.epochs)
        check_pruning(self.prune, "prune")
        self._rising()
        return self

    def phases(self) -> tuple[Phase, ...]:
        if not self.sparsity:
            return Train(epochs=self.epochs, training=self.train), Measure()
        return Train(epochs=self.epochs, training=self.train, rewiring=self._rising()), Measure()

    def _rising(self) -> Rising:
        return Rising(sparsity=self.sparsity, begin=self.begin, end=self.end, every=self.every, pruning=self.prune)
