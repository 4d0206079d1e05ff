"""A recipe that trains nothing, so that a trial costs only what the search itself costs."""

from __future__ import annotations

from typing import Literal

from trainables.method.phases import Measure, Phase, Prune
from trainables.pruning import Pruning
from trainables.recipes import RECIPES
from trainables.recipes.base import Recipe


class NoWork(Recipe):
    """Prune the initial weights and measure."""

    kind: Literal["no_work"] = "no_work"

    def phases(self) -> tuple[Phase, ...]:
        return Prune(sparsity=self.sparsity, pruning=Pruning()), Measure()


RECIPES.register("no_work", NoWork)
