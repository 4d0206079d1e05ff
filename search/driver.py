"""The driver of a launch: issues trials, learns from their points, and knows when to stop.

It knows nothing of Ray. `search.ray_runner` asks it for trials and tells it what became of them;
the records are the truth, and the sampler is rebuilt from them at every start.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from search import objectives, pareto
from search.expectation import Expectations, taught_as
from search.records import Records, utc_now
from search.sampling import Sampling
from trainables import spec as trial_spec
from trainables.base import plain
from trainables.outcome import Failure, Outcome, Point, TrialRecord


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

    @property
    def finished(self) -> int:
        """Trials that have ended, well or not."""
        return self.complete + self.failed


class Driver:
    """One launch of one study."""

    def __init__(self, records: Records, gpus_per_trial: float = 0.0) -> None:
        """Rebuild the sampler from the records; trials without an outcome are issued again first."""
        self.records = records
        self.spec = records.spec
        self._expectations = Expectations(self.spec, records.fingerprint.data_hash)
        self._sampling = Sampling(self.spec, self._expectations.of)
        self._gpus = gpus_per_trial
        self._clock = time.monotonic()
        self._reissue: deque[TrialRecord] = deque()
        self._running: dict[int, TrialRecord] = {}
        self._points: dict[int, list[Point]] = {}
        self._began: dict[int, float] = {}
        self._ended_now = 0
        self._stop_reason: str | None = None
        for record, outcome in records.trials():
            self._sampling.adopt(record.number, record.params, record.sampler)
            self._expectations.issue(record)
            if outcome is None:
                self._reissue.append(record)
            else:
                self._learn(record, outcome, known=0)

    def next(self) -> TrialRecord | None:
        """Issue a trial, recorded before it starts; None when the budget has been issued."""
        if self._reissue:
            record = self._reissue.popleft()
        elif (number := self.records.next_number()) < self.spec.budget.trials:
            record = self._issue(number)
        else:
            return None
        self._running[record.number] = record
        self._points[record.number] = []
        self._began[record.number] = time.monotonic()
        return record

    def _issue(self, number: int) -> TrialRecord:
        params, sampler = self._sampling.ask(number)
        trial = self.spec.trial(params)
        keys = tuple(step.key for step in trial_spec.steps(trial, self.records.fingerprint.data_hash))
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
        self._expectations.issue(record)
        return record

    def on_point(self, number: int, point: Point) -> None:
        """Take in a measured point; all but a trial's last teach the sampler at once."""
        points = self._points.setdefault(number, [])
        if any(known.measure == point.measure for known in points):
            return
        if points and number in self._running:
            self._observe(self._running[number], points[-1])
        points.append(point)

    def on_end(self, number: int, crash: str | None) -> Outcome | None:
        """Take in a trial's end.

        The worker has written the outcome, unless its process died for good (`crash` says how: the
        trial is recorded as failed) or the launch is being stopped (the trial stays unfinished).
        """
        record = self._running.pop(number, None)
        if record is None:
            return None
        seconds = time.monotonic() - self._began.pop(number)
        points = self._points.pop(number, [])
        outcome = self.records.outcome(number)
        if outcome is None and crash is not None:
            now = utc_now()
            outcome = Outcome(
                number=number,
                state="failed",
                points=tuple(points),
                failure=Failure(kind="crashed", message=crash[:2000]),
                started=now,
                finished=now,
                seconds=seconds,
            )
            self.records.write_outcome(outcome)
            outcome = self.records.outcome(number)
        if outcome is None:
            return None
        self._ended_now += 1
        self._learn(record, outcome, known=max(0, len(points) - 1))
        self._stop_reason = self._stop_reason or self._same_failure()
        return outcome

    def _learn(self, record: TrialRecord, outcome: Outcome, known: int) -> None:
        """Teach the sampler an ended trial: the points after the first `known`, and how it ended."""
        on_the_way = outcome.points[:-1] if outcome.state == "complete" else outcome.points
        for point in on_the_way[known:]:
            self._observe(record, point)
        self._tell(record, outcome)
        self._expectations.end(record, outcome)

    def _observe(self, record: TrialRecord, point: Point) -> None:
        params = taught_as(record.params, point.stands_for)
        if params == record.params:
            return
        self._sampling.observe(record.number, params, *self._judge(point))

    def _tell(self, record: TrialRecord, outcome: Outcome) -> None:
        last = outcome.points[-1] if outcome.points else None
        values, violations = self._judge(last) if last and outcome.state == "complete" else (None, [])
        self._sampling.tell(record.number, outcome.state, values, violations)

    def _judge(self, point: Point) -> tuple[list[float] | None, list[float]]:
        if not objectives.valid(point, self.spec):
            return None, []
        return objectives.values(point, self.spec), objectives.violations(point, self.spec)

    def stop_reason(self) -> str | None:
        """Say why no more trials should run although the budget of trials is not spent, or None."""
        if self._stop_reason is None:
            self._stop_reason = self._spent()
        return self._stop_reason

    def _same_failure(self) -> str | None:
        outcomes = [outcome for _, outcome in self.records.trials() if outcome is not None]
        first = outcomes[: self.spec.abort_after]
        if len(first) < self.spec.abort_after:
            return None
        kinds = {outcome.failure.kind if outcome.failure else None for outcome in first}
        if len(kinds) > 1 or None in kinds or any(outcome.state == "complete" for outcome in outcomes):
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
            outcomes = [outcome for _, outcome in self.records.trials() if outcome]
            ended = sum(outcome.seconds for outcome in outcomes if outcome.number not in self._running)
            running = sum(time.monotonic() - began for began in self._began.values())
            if (ended + running) * self._gpus / 3600 >= budget.gpu_hours:
                return f"the budget of {budget.gpu_hours:g} GPU-hours is spent"
        return None

    def snapshot(self) -> Snapshot:
        """Look at the records and the running trials."""
        # A worker records its outcome a moment before Tune says so; until then the trial counts as running.
        ended = (outcome for _, outcome in self.records.trials() if outcome is not None)
        outcomes = [outcome for outcome in ended if outcome.number not in self._running]
        complete = [outcome for outcome in outcomes if outcome.state == "complete"]
        points = [point for outcome in complete for point in outcome.points]
        distinct = {point.key: point for point in reversed(points)}.values()
        counted = [p for p in distinct if objectives.valid(p, self.spec) and objectives.feasible(p, self.spec)]
        values = [objectives.values(point, self.spec) for point in counted]
        front = pareto.nondominated(values)
        elapsed = time.monotonic() - self._clock
        left = self.spec.budget.trials - len(outcomes)
        return Snapshot(
            study=self.spec.name,
            target=self.spec.budget.trials,
            complete=len(complete),
            failed=len(outcomes) - len(complete),
            running=len(self._running),
            points=len(points) + sum(len(points) for points in self._points.values()),
            front=sum(front),
            hypervolume=pareto.hypervolume(values),
            best=max(counted, key=lambda point: point.robust_accuracy, default=None),
            elapsed=elapsed,
            remaining=elapsed / self._ended_now * left if self._ended_now else None,
        )
