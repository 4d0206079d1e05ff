"""How far a launch is: trials, points, the front, and what of the budget is spent."""

from __future__ import annotations

import time
from dataclasses import dataclass

from search import objectives
from search.objectives import pareto
from search.study.spec import StudySpec
from trainables.store.records import Outcome, Point


@dataclass(frozen=True)
class Snapshot:
    """The progress of a launch; `front` counts a network that several trials share once.

    Units: `elapsed` and `remaining` seconds.
    """

    study: str
    target: int
    complete: int
    failed: int
    running: int
    points: int
    front: int
    hypervolume: float
    best: Point | None
    elapsed: float
    remaining: float | None
    stopped: int = 0

    @property
    def finished(self) -> int:
        """Trials that have ended, well or not."""
        return self.complete + self.failed + self.stopped


class Tally:
    """The counts of one launch, those of earlier launches of the study included."""

    def __init__(self, spec: StudySpec, gpus_per_trial: float) -> None:
        """Start at zero, and start the clock."""
        self._spec = spec
        self._gpus = gpus_per_trial
        self._clock = time.monotonic()
        self._began: dict[int, float] = {}
        self._ended: list[Outcome] = []
        self._ended_now = 0
        self._complete = self._stopped = 0
        self._points = 0
        self._archive = pareto.Archive()
        self._best: Point | None = None

    def start(self, number: int) -> None:
        """Start the clock of a trial; one that runs again after a crash keeps its first start."""
        self._began.setdefault(number, time.monotonic())

    def stop(self, number: int) -> float:
        """Return the seconds since a trial started."""
        return time.monotonic() - self._began.pop(number)

    def end(self, outcome: Outcome, *, now: bool) -> None:
        """Count an ended trial; `now` if it ended in this launch."""
        self._ended.append(outcome)
        self._ended_now += now
        self._stopped += outcome.state == "stopped"
        if outcome.state == "complete":
            self._complete += 1
            for point in outcome.points:
                self._count(point)

    def _count(self, point: Point) -> None:
        self._points += 1
        if not objectives.valid(point, self._spec) or not objectives.feasible(point, self._spec):
            return
        self._archive.add(point.key, objectives.values(point, self._spec))
        if self._best is None or point.robust_accuracy > self._best.robust_accuracy:
            self._best = point

    def same_failure(self) -> str | None:
        """Return why a search is hopeless whose first trials all failed alike, None where they did not."""
        if len(self._ended) < self._spec.abort_after or self._complete:
            return None
        first = sorted(self._ended, key=lambda outcome: outcome.number)[: self._spec.abort_after]
        kinds = {outcome.failure.kind if outcome.failure else None for outcome in first}
        if len(kinds) > 1 or None in kinds:
            return None
        failure = first[-1].failure
        assert failure is not None
        message = failure.message.strip().partition("\n")[0]
        return f"the first {len(first)} trials all failed ({failure.kind}): {message}"

    def failures(self) -> list[Outcome]:
        """Return how trials failed, in order of number."""
        return sorted((outcome for outcome in self._ended if outcome.failure), key=lambda outcome: outcome.number)

    def spent(self) -> str | None:
        """Return which budget of time is spent, None where none is."""
        budget = self._spec.budget
        elapsed = time.monotonic() - self._clock
        if budget.wall_time is not None and elapsed >= budget.wall_time:
            return f"the wall time of {budget.wall_time:g} s is spent"
        if budget.gpu_hours is not None and self._gpus:
            ended = sum(outcome.seconds for outcome in self._ended)
            running = sum(time.monotonic() - began for began in self._began.values())
            if (ended + running) * self._gpus / 3600 >= budget.gpu_hours:
                return f"the budget of {budget.gpu_hours:g} GPU-hours is spent"
        return None

    def snapshot(self, running: int, points: int) -> Snapshot:
        """Return the progress, given how many trials run and what they have measured.

        It costs the same however many trials have ended.
        """
        elapsed = time.monotonic() - self._clock
        ended = len(self._ended)
        left = max(0, self._spec.budget.trials - ended)
        return Snapshot(
            study=self._spec.name,
            target=self._spec.budget.trials,
            complete=self._complete,
            failed=ended - self._complete - self._stopped,
            running=running,
            points=self._points + points,
            front=len(self._archive.front),
            hypervolume=self._archive.hypervolume(),
            best=self._best,
            elapsed=elapsed,
            remaining=elapsed / self._ended_now * left if self._ended_now else None,
            stopped=self._stopped,
        )
