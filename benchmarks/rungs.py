"""Iterative pruning by the number of its rounds: the ladder of `imp` as a whole number to search."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainables.phases import Measure, Phase
from trainables.recipes import RECIPES
from trainables.recipes.imp import Imp


class Rungs(Imp):
    """`imp` to the sparsity that `rounds` cuts of `rate` reach; its stages are those of `imp`."""

    kind: Literal["rungs"] = "rungs"  # type: ignore[assignment]
    rounds: int = Field(default=1, ge=1)

    def ladder(self) -> tuple[float, ...]:
        return tuple(round(1 - (1 - self.rate) ** (rung + 1), 6) for rung in range(self.rounds))

    def phases(self) -> tuple[Phase, ...]:
        measured = 0
        steps: list[Phase] = []
        for phase in super().phases():
            if isinstance(phase, Measure):
                phase = Measure(stands_for={"rounds": measured})
                measured += 1
            steps.append(phase)
        return tuple(steps)


RECIPES.register("rungs", Rungs)
