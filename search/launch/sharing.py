"""How many epochs the trials of a space share, estimated before any of them runs."""

from __future__ import annotations

import random
from dataclasses import dataclass

from search.space.parameters import Params, is_active, value_at
from search.study.spec import StudySpec
from trainables.method.phases import EpochPhase
from trainables.recipes.trial import keyed_phases

MOST_TRIALS = 256
"""How many trials are drawn at most: more cost seconds and hardly change the factor."""
_MOST_PHASES = 5_000


@dataclass(frozen=True)
class Sharing:
    """The training epochs of `trials` random trials: each by itself, and with every stage trained once."""

    trials: int
    alone: int
    shared: int

    @property
    def factor(self) -> float:
        """How many times fewer epochs sharing takes."""
        return self.alone / self.shared if self.shared else 1.0

    def __str__(self) -> str:
        if self.alone == self.shared:
            return f"{self.trials} random trials would train {self.alone} epochs, and share none"
        return (
            f"{self.trials} random trials would train {self.alone} epochs each by itself and {self.shared} with equal "
            f"stages trained once: {self.factor:.1f} times fewer"
        )


def estimate(spec: StudySpec, trials: int | None = None) -> Sharing:
    """Draw trials from the space, by default as many as the budget has, and count what they share.

    No more than `MOST_TRIALS` are drawn, and fewer where trials have very many phases. A search that learns draws
    closer together, and shares more.
    """
    draws = random.Random(0)
    drawn, phases, alone, stages = 0, 0, 0, {}
    params: Params = {}
    while drawn < min(trials or spec.planned, MOST_TRIALS) and phases < _MOST_PHASES:
        replicate = drawn % len(spec.replicates)
        params = params if replicate else draw(spec, draws)
        steps = keyed_phases(spec.trial(params, spec.replicates[replicate]), "")
        drawn, phases = drawn + 1, phases + len(steps)
        for step in steps:
            if isinstance(step.phase, EpochPhase):
                alone += step.phase.length
                stages[step.key] = step.phase.length
    return Sharing(drawn, alone, sum(stages.values()))


def draw(spec: StudySpec, draws: random.Random) -> Params:
    """Draw the active parameters of a trial, each uniformly (in its logarithm where it has `log`)."""
    params: Params = {}
    for path, parameter in spec.space.items():
        if is_active(parameter, params):
            params[path] = value_at(draws.random(), parameter)
    return params
