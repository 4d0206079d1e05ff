"""The driver of a launch: issues trials, learns from their points, and knows when to stop.

It knows nothing of Ray. `search.launch.tune` asks it for trials and tells it what became of them;
the records are the truth, and the sampler is rebuilt from them at every start.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from search import objectives
from search.launch.ask_tell import Sampling
from search.launch.cost import Forecasts, params_measured
from search.launch.queue import Order, trainings
from search.launch.screening import Screens
from search.launch.stopping import ENQUEUED, EarlyStopping
from search.objectives import pareto
from search.results import table
from search.store.gc import StageCollector
from search.store.records import Records, utc_now
from search.study.inverse import completed
from trainables.core.errors import StorageError
from trainables.core.spec import plain
from trainables.recipes import trial as trial_spec
from trainables.recipes.trial import TrialSpec
from trainables.store.records import Failure, Outcome, PartialMeasurement, Point, TrialRecord


@dataclass(frozen=True)
class Snapshot:
    """Where a launch stands, for whoever watches it; `front` counts a network that several trials share once."""

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


class Driver:
    """One launch of one study.

    In a deterministic study trials are asked for in rounds of `spec.round`, and the sampler is taught, in order of
    number, when a round has ended: what it knows of a trial's past depends on no worker's speed.
    """

    def __init__(self, records: Records, gpus_per_trial: float = 0.0, ahead: int = 1) -> None:
        """Rebuild the sampler from the records; trials without an outcome are issued again first.

        `ahead` is how many trials may be issued that wait for another's stage.
        """
        self.records = records
        self.spec = records.spec
        self._expectations = Forecasts(self.spec, records.fingerprint.data_hash)
        self._sampling = Sampling(self.spec, self._expectations.of)
        self._early = EarlyStopping(self.spec)
        self._screens = Screens(self.spec)
        self._gpus = gpus_per_trial
        self._ahead = ahead
        self._clock = time.monotonic()
        self._order = Order()
        self._collector = StageCollector(records, lambda: table.front_stages(records.spec, records.trials()))
        self._running: dict[int, TrialRecord] = {}
        self._points: dict[int, list[Point]] = {}
        self._rungs: dict[int, list[PartialMeasurement]] = {}
        self._began: dict[int, float] = {}
        self._crashes: Counter[int] = Counter()
        self._untaught: dict[int, tuple[TrialRecord, Outcome]] = {}
        issued = records.trials()
        self._taken = {trial.number for trial, _ in issued} | {bad.number for bad in records.damaged()}
        self._next = self._free(0)
        self._ended: list[Outcome] = []
        self._ended_now = 0
        self._complete = self._stopped = 0
        self._measured = 0
        self._archive = pareto.Archive()
        self._best: Point | None = None
        self._stop_reason: str | None = None
        taught = records.lessons()
        self._expectations.store(taught.stages)
        for lesson in taught.lessons:
            params = completed(self.spec, lesson.params) or lesson.params
            self._sampling.add_transferred(lesson.study, params, *self._judge(lesson.measured))
        trials = [(self._completed(record), outcome) for record, outcome in issued]
        queued = [record.params for record, _ in trials if record.sampler.get(ENQUEUED)]
        self._queue = [given for given in self.spec.queue() if given not in queued]
        for record, outcome in trials:
            self._teach_rounds_before(record.number)
            self._sampling.adopt(record.number, record.params, record.sampler)
            self._expectations.issue(record)
            if outcome is None:
                chain = trial_spec.keyed_phases(TrialSpec.model_validate(record.spec), records.fingerprint.data_hash)
                self._order.add(record, trainings(chain))
                continue
            self._end(record, outcome, known=0)

    def _completed(self, record: TrialRecord) -> TrialRecord:
        """Return a trial with the parameters that the space has been extended by since, at the values it had."""
        params = completed(self.spec, record.params)
        if params is None:
            raise StorageError(f"the space of {self.records.storage.location} does not hold its trial {record.number}")
        return record if params is record.params else record.model_copy(update={"params": params})

    def next(self) -> TrialRecord | None:
        """Return a trial to start, recorded before; None where none can start now, or ever (`waiting` tells)."""
        record = self._order.take()
        while record is None and len(self._order) < self._ahead and self._may_issue():
            self._issue(self._next)
            record = self._order.take()
        if record is None:
            return None
        self._running[record.number] = record
        self._points.setdefault(record.number, [])
        self._rungs.setdefault(record.number, [])
        self._began.setdefault(record.number, time.monotonic())
        return record

    @property
    def waiting(self) -> bool:
        """Whether trials are left that may start once others have ended, stored a stage, or crashed."""
        return bool(self._order) or bool(self._running) or self._next < self.spec.budget.trials

    def _free(self, first: int) -> int:
        """Return the smallest number from `first` that no record bears, damaged ones included."""
        return next(number for number in itertools.count(first) if number not in self._taken)

    def _may_issue(self) -> bool:
        if self._next >= self.spec.budget.trials:
            return False
        if not self.spec.deterministic:
            return True
        first = self._next - self._next % self.spec.round
        unended = (*self._running, *self._order)
        return all(other >= first for other in unended)

    def _issue(self, number: int) -> None:
        self._teach_rounds_before(number)
        given = self._queue[0] if self._queue else None
        params, sampler = self._sampling.ask(number, given)
        if given is not None:
            sampler = {**sampler, ENQUEUED: True}
        trial = self.spec.trial(params)
        chain = trial_spec.keyed_phases(trial, self.records.fingerprint.data_hash)
        keys = tuple(step.key for step in chain)
        record = TrialRecord(
            number=number,
            study=self.spec.name,
            params=params,
            spec=plain(trial),
            keys=keys,
            seed=trial.seed,
            sampler=sampler,
            issued=utc_now(),
        )
        self.records.issue(record)
        self._queue = self._queue[1:]
        self._expectations.issue(record)
        self._next = self._free(number + 1)
        self._order.add(record, trainings(chain))

    def on_progress(self, number: int, phases_done: int) -> None:
        """Take in how many of its phases a trial has behind it: their results are stored."""
        if (record := self._running.get(number)) is not None:
            self._order.store(record.keys[:phases_done])

    def on_point(self, number: int, point: Point) -> None:
        """Take in a measured point; all but a trial's last teach the sampler, at once or when their round has ended."""
        points = self._points.setdefault(number, [])
        if any(known.measure == point.measure for known in points):
            return
        if points and number in self._running and not self.spec.deterministic:
            self._observe(self._running[number], points[-1])
        points.append(point)
        if number in self._running:
            self._early.point(self._running[number], point)

    def on_partial(self, number: int, rung: PartialMeasurement) -> None:
        """Take in a look at a running trial's training; the sampler learns nothing of it."""
        rungs = self._rungs.get(number, [])
        if number not in self._running or any((r.measures, r.share) == (rung.measures, rung.share) for r in rungs):
            return
        rungs.append(rung)
        self._early.rung(self._running[number], rung)

    def stops(self, number: int) -> bool:
        """Say whether a running trial is to stop early, by all that it has shown so far."""
        return self._early.stops(number)

    def on_crash(self, number: int) -> Outcome | None:
        """Take in that a trial's process died: it runs again, unless that was once too often."""
        record = self._running.get(number)
        if record is None:
            return None
        self._crashes[number] += 1
        if self._crashes[number] > self.spec.max_failures or self.records.outcome(number) is not None:
            times, allowed = self._crashes[number], self.spec.max_failures
            return self.on_end(number, f"its process died, time {times}; max_failures is {allowed}")
        del self._running[number]
        self._order.again(record)
        return None

    def screen(self) -> dict[str, Any] | None:
        """Return what a trial that starts now screens its points against; None where nothing can be ruled out."""
        return self._screens.now()

    def on_end(self, number: int, crash: str | None) -> Outcome | None:
        """Take in a trial's end.

        The worker has written the outcome, unless it was told to stop early (the trial is recorded as stopped), its
        process died for good (`crash` says how: the trial is recorded as failed) or the launch is being stopped (the
        trial stays unfinished).
        """
        record = self._running.pop(number, None)
        if record is None:
            return None
        self._order.end(number)
        seconds = time.monotonic() - self._began.pop(number)
        points, rungs = self._points.pop(number, []), self._rungs.pop(number, [])
        outcome = self.records.outcome(number)
        early = self.stops(number)
        if outcome is None and (early or crash is not None):
            now = utc_now()
            outcome = Outcome(
                number=number,
                state="stopped" if early else "failed",
                points=tuple(points),
                rungs=tuple(rungs),
                failure=None if early else Failure(kind="crashed", message=str(crash)[:2000]),
                started=now,
                finished=now,
                seconds=seconds,
                params=record.params,
            )
            self.records.write_outcome(outcome)
            outcome = self.records.outcome(number)
        if outcome is None:
            return None
        self._ended_now += 1
        self._end(record, outcome, known=max(0, len(points) - 1))
        if self.spec.stage_storage is not None:
            self._order.drop(self._collector.sweep(self.spec.stage_storage).dropped)
        self._stop_reason = self._stop_reason or self._same_failure()
        return outcome

    def _end(self, record: TrialRecord, outcome: Outcome, known: int) -> None:
        """Count an ended trial, and teach the sampler."""
        self._ended.append(outcome)
        self._stopped += outcome.state == "stopped"
        if outcome.state == "complete":
            self._complete += 1
            self._order.store(record.keys)
            for point in outcome.points:
                self._count(point)
        if self.spec.deterministic:
            self._untaught[record.number] = record, outcome
        else:
            self._learn(record, outcome, known)

    def _teach_rounds_before(self, number: int) -> None:
        """Teach the sampler what has ended in the rounds before that of trial `number`."""
        first = number - number % self.spec.round
        for ended in sorted(n for n in self._untaught if n < first):
            record, outcome = self._untaught.pop(ended)
            self._learn(record, outcome, known=0)

    def _learn(self, record: TrialRecord, outcome: Outcome, known: int) -> None:
        """Teach the sampler an ended trial: the points after the first `known`, and how it ended."""
        on_the_way = outcome.points[:-1] if outcome.state == "complete" else outcome.points
        for point in on_the_way[known:]:
            self._observe(record, point)
        self._tell(record, outcome)
        self._expectations.end(record, outcome)
        self._early.end(record, outcome)
        self._screens.learn(outcome)

    def _observe(self, record: TrialRecord, point: Point) -> None:
        params = params_measured(self.spec.space, record.params, point.stands_for, record.spec["recipe"].get)
        if params is None or params == record.params:
            return
        self._sampling.add_observation(record.number, params, *self._judge(point))

    def _tell(self, record: TrialRecord, outcome: Outcome) -> None:
        shown: list[Point | PartialMeasurement] = [*outcome.rungs, *outcome.points]
        last = shown[-1] if shown else None
        values, violations = self._judge(last) if last and outcome.state != "failed" else (None, [])
        # A trial whose last point was screened has no values; it is bad, and it has not failed.
        screened = isinstance(last, Point) and last.tier == "screened"
        self._sampling.tell(record.number, "stopped" if screened else outcome.state, values, violations)

    def _judge(self, point: objectives.Measured) -> tuple[list[float] | None, list[float]]:
        if not objectives.valid(point, self.spec):
            return None, []
        missed = [*objectives.violations(point, self.spec), *objectives.target_violations(point, self.spec)]
        return objectives.values(point, self.spec), missed

    def stop_reason(self) -> str | None:
        """Say why no more trials should run although the budget of trials is not spent, or None."""
        if self._stop_reason is None:
            self._stop_reason = self._spent()
        return self._stop_reason

    def _count(self, point: Point) -> None:
        self._measured += 1
        if not objectives.valid(point, self.spec) or not objectives.feasible(point, self.spec):
            return
        self._archive.add(point.key, objectives.values(point, self.spec))
        if self._best is None or point.robust_accuracy > self._best.robust_accuracy:
            self._best = point

    def _same_failure(self) -> str | None:
        if len(self._ended) < self.spec.abort_after or any(outcome.state == "complete" for outcome in self._ended):
            return None
        first = sorted(self._ended, key=lambda outcome: outcome.number)[: self.spec.abort_after]
        kinds = {outcome.failure.kind if outcome.failure else None for outcome in first}
        if len(kinds) > 1 or None in kinds:
            return None
        failure = first[-1].failure
        assert failure is not None
        message = failure.message.strip().partition("\n")[0]
        return f"the first {len(first)} trials all failed ({failure.kind}): {message}"

    def _spent(self) -> str | None:
        budget = self.spec.budget
        elapsed = time.monotonic() - self._clock
        if budget.wall_time is not None and elapsed >= budget.wall_time:
            return f"the wall time of {budget.wall_time:g} s is spent"
        if budget.gpu_hours is not None and self._gpus:
            ended = sum(outcome.seconds for outcome in self._ended)
            running = sum(time.monotonic() - began for began in self._began.values())
            if (ended + running) * self._gpus / 3600 >= budget.gpu_hours:
                return f"the budget of {budget.gpu_hours:g} GPU-hours is spent"
        return None

    def snapshot(self) -> Snapshot:
        """Say how far the launch is; it costs the same however many trials have ended."""
        elapsed = time.monotonic() - self._clock
        ended = len(self._ended)
        left = self.spec.budget.trials - ended
        return Snapshot(
            study=self.spec.name,
            target=self.spec.budget.trials,
            complete=self._complete,
            failed=ended - self._complete - self._stopped,
            running=len(self._running),
            points=self._measured + sum(len(points) for points in self._points.values()),
            front=len(self._archive.front),
            hypervolume=self._archive.hypervolume(),
            best=self._best,
            elapsed=elapsed,
            remaining=elapsed / self._ended_now * left if self._ended_now else None,
            stopped=self._stopped,
        )
