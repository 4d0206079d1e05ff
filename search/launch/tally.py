"""How far a launch is: trials, points, the front, and what of the budget is spent."""

from __future__ import annotations

import time
from collections import Counter
from functools import cached_property

from search import objectives
from search.launch import sharing
from search.objectives import pareto
from search.objectives.replicates import Replicated
from search.results.progress import Snapshot as Snapshot
from search.results.progress import epochs_of, most_robust, rate
from search.store.live import RunningTrial
from search.study.spec import StudySpec
from trainables.store.records import Outcome, Point, TrialRecord

_SETTLED = 0.5
"""How many trials' work must be done before the time left is estimated."""


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
        self._failures: Counter[str] = Counter()
        self._epochs_trained = self._epochs_shared = 0
        self._replicated = Replicated(spec.seeds)
        self._archive = pareto.Archive()
        self._front: dict[str, Point] = {}

    def start(self, number: int) -> None:
        """Start the clock of a trial; one that runs again after a crash keeps its first start."""
        self._began.setdefault(number, time.monotonic())

    def stop(self, number: int) -> float:
        """Return the seconds since a trial started."""
        return time.monotonic() - self._began.pop(number)

    def end(self, trial: TrialRecord, outcome: Outcome, *, now: bool) -> None:
        """Count an ended trial; `now` if it ended in this launch."""
        self._ended.append(outcome)
        self._ended_now += now
        self._stopped += outcome.state == "stopped"
        if outcome.failure is not None:
            self._failures[outcome.failure.kind] += 1
        trained, shared = epochs_of(outcome)
        self._epochs_trained += trained
        self._epochs_shared += shared
        if outcome.state == "complete":
            self._complete += 1
            self._points += len(outcome.points)
        for point in self._replicated.end(trial, outcome):
            self._judge(point)

    def _judge(self, point: Point) -> None:
        if not objectives.valid(point, self._spec) or not objectives.feasible(point, self._spec):
            return
        if self._archive.add(point.key, objectives.values(point, self._spec)):
            self._front.setdefault(point.key, point)
            self._front = {key: kept for key, kept in self._front.items() if key in self._archive.front}

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
        elapsed = self.elapsed
        if budget.wall_time is not None and elapsed >= budget.wall_time:
            return f"the wall time of {budget.wall_time:g} s is spent"
        if budget.gpu_hours is not None and self._gpus:
            ended = sum(outcome.seconds for outcome in self._ended)
            running = sum(time.monotonic() - began for began in self._began.values())
            if (ended + running) * self._gpus / 3600 >= budget.gpu_hours:
                return f"the budget of {budget.gpu_hours:g} GPU-hours is spent"
        return None

    @property
    def elapsed(self) -> float:
        """Seconds since the clock started."""
        return time.monotonic() - self._clock

    @property
    def ended(self) -> int:
        """How many trials have ended, in this launch and before it."""
        return len(self._ended)

    @cached_property
    def _course(self) -> sharing.Course:
        return sharing.course(self._spec)

    def remaining(self, trials: tuple[RunningTrial, ...]) -> float | None:
        """Return the seconds that the launch still needs, given what is known of the running trials; None at first.

        Early trials train what later ones share, so trials count by what they are expected to train.
        """
        elapsed, ended, ended_now = self.elapsed, len(self._ended), self._ended_now
        done = ended + sum(trial.done for trial in trials)
        if done - (ended - ended_now) < _SETTLED:
            return None
        work = self._course.work
        left = max(0.0, work(self._spec.planned) - work(done))
        remaining = elapsed * left / (work(done) - work(ended - ended_now))
        wall_time = self._spec.budget.wall_time
        return remaining if wall_time is None else min(remaining, max(0.0, wall_time - elapsed))

    def snapshot(
        self,
        running: int,
        points: int,
        trials: tuple[RunningTrial, ...] = (),
        *,
        issued: int | None = None,
        damaged: int = 0,
        driver: str | None = None,
    ) -> Snapshot:
        """Return the progress, given how many trials run, what they have measured, and what is known of them.

        It costs the same however many trials have ended.
        """
        elapsed, ended = self.elapsed, len(self._ended)
        front = tuple(sorted(self._front.values(), key=lambda point: point.sparsity))
        return Snapshot(
            study=self._spec.name,
            target=self._spec.planned,
            complete=self._complete,
            failed=ended - self._complete - self._stopped,
            running=running,
            points=self._points + points,
            front=len(front),
            hypervolume=self._archive.hypervolume(),
            best=most_robust(front),
            elapsed=elapsed,
            remaining=self.remaining(trials),
            stopped=self._stopped,
            issued=issued,
            damaged=damaged,
            rate=rate(self._ended_now, elapsed),
            trials=trials,
            front_points=front,
            driver=driver,
            objectives=tuple(self._spec.objectives),
            failures=dict(self._failures),
            epochs_trained=self._epochs_trained + sum(trial.epochs_trained for trial in trials),
            epochs_shared=self._epochs_shared + sum(trial.epochs_shared for trial in trials),
        )
