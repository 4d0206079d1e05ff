"""Simulated time: workers train one epoch per unit of time, and a method decides what they train.

A trial is a generator. It yields the number of epochs that it trains next, continues when they are trained, and reports
its measurements. It may also yield for how long its worker waits for what another trains. No time passes between two
yields.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from search.objectives import pareto


@dataclass(frozen=True)
class Wait:
    """A worker that trains nothing for some time."""

    time: int


Work = Generator[int | Wait, None, None]

MOST_TRIALS = 500
"""Trials after which a run is given up: with shared training, repeated ones cost no epochs."""


class Method(Protocol):
    """Whoever chooses trials."""

    def next(self) -> Work | None:
        """Start a trial; None where none can start before another makes progress, or none is left."""
        ...


@dataclass(frozen=True)
class Mark:
    """A rise of the hypervolume: when, after how many epochs trained by all workers, and in which trial (from 1)."""

    epochs: int
    time: int
    trials: int
    hypervolume: float


@dataclass
class Front:
    """The hypervolume of what was measured so far."""

    values: list[list[float]] = field(default_factory=list)
    hypervolume: float = 0.0

    def add(self, values: list[float]) -> bool:
        """Take in a point; say whether it adds to the hypervolume."""
        if any(pareto.covers(known, values) for known in self.values):
            return False
        kept = [known for known in self.values if any(a > b for a, b in zip(known, values, strict=True))]
        self.values = [*kept, values]
        before, self.hypervolume = self.hypervolume, pareto.hypervolume(self.values)
        return self.hypervolume > before


@dataclass
class Ledger:
    """What a run is judged by: the rise of the hypervolume, of all points and of those that end a trial."""

    epochs: int = 0
    time: int = 0
    trials: int = 0
    all_points: list[Mark] = field(default_factory=list)
    last_points: list[Mark] = field(default_factory=list)
    _all: Front = field(default_factory=Front)
    _last: Front = field(default_factory=Front)

    def measured(self, values: list[float], *, last: bool) -> None:
        """Take in a point, the last of its trial or one on the way."""
        if self._all.add(values):
            self.all_points.append(Mark(self.epochs, self.time, self.trials, self._all.hypervolume))
        if last and self._last.add(values):
            self.last_points.append(Mark(self.epochs, self.time, self.trials, self._last.hypervolume))


def simulate(
    method: Method, ledger: Ledger, *, workers: int, epochs: int, goal: float, trials: int = MOST_TRIALS
) -> None:
    """Run a method until this many epochs are trained or trials started, the goal is reached by all points, or it ends.

    An epoch of every worker that trains counts as it is trained, finished trial or not. What would be measured after
    more epochs is not.
    """
    turn = itertools.count()
    waiting: list[_Entry] = []
    while True:
        while (
            len(waiting) < workers
            and ledger.epochs < epochs
            and ledger.trials < trials
            and (work := method.next()) is not None
        ):
            ledger.trials += 1
            _go_on(waiting, next(turn), work, ledger)
        done = bool(ledger.all_points) and ledger.all_points[-1].hypervolume >= goal
        if not waiting or done:
            return
        at = waiting[0].at
        training = sum(entry.trains for entry in waiting)
        if ledger.epochs + (at - ledger.time) * training > epochs:
            ledger.time += (epochs - ledger.epochs) // training
            ledger.epochs = epochs
            return
        ledger.epochs += (at - ledger.time) * training
        ledger.time = at
        _go_on(waiting, next(turn), heapq.heappop(waiting).work, ledger)


class _Entry(NamedTuple):
    """A trial that goes on at a time; of several at that time, in their turn."""

    at: int
    turn: int
    trains: bool
    work: Work


def _go_on(waiting: list[_Entry], turn: int, work: Work, ledger: Ledger) -> None:
    """Let a trial go on to its next training or wait; without one it is over and its worker free."""
    for step in work:
        if isinstance(step, Wait):
            heapq.heappush(waiting, _Entry(ledger.time + step.time, turn, False, work))
            return
        if step:
            heapq.heappush(waiting, _Entry(ledger.time + step, turn, True, work))
            return
