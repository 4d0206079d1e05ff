"""How many epochs the trials of a space share, estimated before any of them runs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from search.space.parameters import MAX_GRID, Params, identity, is_active, value_at
from search.study.spec import StudySpec
from trainables.method.phases import EpochPhase
from trainables.recipes.trial import keyed_phases

MOST_TRIALS = 256
"""How many trials are drawn at most: more cost seconds and hardly change the factor."""
_MOST_PHASES = 5_000


@dataclass(frozen=True)
class Sharing:
    """The training epochs of `trials` trials: each by itself, and with every stage trained once."""

    trials: int
    alone: int
    shared: int
    random: bool = True

    @property
    def factor(self) -> float:
        """How many times fewer epochs sharing takes."""
        return self.alone / self.shared if self.shared else 1.0

    def __str__(self) -> str:
        drawn = f"{self.trials} {'random ' if self.random else ''}trials would train {self.alone} epochs"
        if self.alone == self.shared:
            return f"{drawn}, and share none"
        return f"{drawn} without sharing, {self.shared} with it: {self.factor:.1f} times fewer"


def estimate(spec: StudySpec) -> Sharing:
    """Count what the first trials share, as many as the budget has.

    They are those of the sampler where it tries every combination, otherwise random ones: a search that learns draws
    closer together, and shares more. No more than `MOST_TRIALS` are counted, and fewer where trials have very many
    phases.
    """
    planned = list(itertools.islice(_every(spec), MOST_TRIALS))
    draws = random.Random(0)
    counted, phases, alone, stages = 0, 0, 0, {}
    params: Params = {}
    while counted < min(spec.planned, MOST_TRIALS) and phases < _MOST_PHASES:
        configuration, replicate = divmod(counted, len(spec.replicates))
        if not replicate:
            params = planned[configuration] if planned else draw(spec, draws)
        steps = keyed_phases(spec.trial(params, spec.replicates[replicate]), "")
        counted, phases = counted + 1, phases + len(steps)
        for step in steps:
            if isinstance(step.phase, EpochPhase):
                alone += step.phase.length
                stages[step.key] = step.phase.length
    return Sharing(counted, alone, sum(stages.values()), random=not planned)


def _every(spec: StudySpec) -> Iterator[Params]:
    """Yield what a sampler of every combination tries, in its order: what is enqueued first."""
    every = itertools.islice(spec.sampler.every(spec.space), MAX_GRID + 1)
    if (first := next(every, None)) is not None:
        trials = itertools.chain(spec.enqueued(), [first], every)
        yield from {identity(params): params for params in trials}.values()


def draw(spec: StudySpec, draws: random.Random) -> Params:
    """Draw the active parameters of a trial, each uniformly (in its logarithm where it has `log`)."""
    params: Params = {}
    for path, parameter in spec.space.items():
        if is_active(parameter, params):
            params[path] = value_at(draws.random(), parameter)
    return params
