"""How many epochs the trials of a space share, estimated before any of them runs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from search.space.parameters import MAX_GRID, Params, identity, is_active, value_at
from search.study.spec import StudySpec
from trainables.core.errors import SpecError
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


@dataclass(frozen=True)
class Course:
    """How many epochs the first trials of a search train with every stage trained once, `after` each of them."""

    after: tuple[int, ...]

    def work(self, trials: float) -> float:
        """Return what the first so many trials cost in epochs, parts of a trial in proportion.

        What a trial does besides its training, such as measuring, counts as one epoch. Trials beyond those counted
        train as many epochs as one of their later half.
        """
        counted = len(self.after)
        sums = (0, *self.after)
        whole = min(int(trials), counted)
        since = counted // 2
        next_one = sums[whole + 1] - sums[whole] if whole < counted else (sums[-1] - sums[since]) / (counted - since)
        return trials + sums[whole] + (trials - whole) * next_one


def estimate(spec: StudySpec) -> Sharing:
    """Count what the first trials share, as many as the budget has.

    They are those of the sampler where it tries every combination, otherwise random ones: a search that learns draws
    closer together, and shares more. No more than `MOST_TRIALS` are counted, and fewer where trials have very many
    phases.
    """
    alone, after, planned = _counted(spec)
    return Sharing(len(after), alone, after[-1], random=not planned)


def course(spec: StudySpec) -> Course:
    """Return what the first trials train one after the other, counted as for `estimate`."""
    return Course(_counted(spec)[1])


def _counted(spec: StudySpec) -> tuple[int, tuple[int, ...], bool]:
    """Return the epochs without sharing, those with it after each trial, and whether it is known what is tried."""
    planned = list(itertools.islice(_every(spec), MOST_TRIALS))
    draws = random.Random(0)
    phases, alone = 0, 0
    after: list[int] = []
    stages: set[str] = set()
    params: Params = {}
    while len(after) < min(spec.planned, MOST_TRIALS) and phases < _MOST_PHASES:
        configuration, replicate = divmod(len(after), len(spec.replicates))
        if not replicate:
            params = planned[configuration] if planned else draw(spec, draws)
        try:
            steps = keyed_phases(spec.trial(params, spec.replicates[replicate]), "")
        except SpecError:  # Such a trial fails before it trains.
            steps = ()
        trained = {step.key: step.phase.length for step in steps if isinstance(step.phase, EpochPhase)}
        phases += len(steps)
        alone += sum(trained.values())
        new = sum(length for key, length in trained.items() if key not in stages)
        stages |= trained.keys()
        after.append((after[-1] if after else 0) + new)
    return alone, tuple(after), bool(planned)


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
