"""The driver of a launch: issues trials, observes their points, and decides when to stop.

It knows nothing of Ray. A runner (`search.launch.tune` or `search.launch.inline`) asks it for trials and reports what
they measure; the records are the truth, and all else is rebuilt from them at every start.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from search import objectives
from search.launch.ask_tell import Sampling
from search.launch.cost import Forecasts, params_measured
from search.launch.queue import Order, trainings
from search.launch.replicates import Judged, Replicates
from search.launch.running import RunningTrials
from search.launch.screening import Screens
from search.launch.stopping import ENQUEUED, EarlyStopping
from search.launch.tally import Snapshot, Tally
from search.results import table
from search.store.gc import StageCollector
from search.store.live import Running
from search.store.records import Records
from search.store.study_yaml import utc_now
from search.study.inverse import completed
from trainables.core.errors import StorageError
from trainables.core.spec import plain
from trainables.recipes import trial as trial_spec
from trainables.recipes.trial import KeyedPhase, TrialSpec
from trainables.store.lease import Holder
from trainables.store.records import Failure, Outcome, PartialMeasurement, Point, TrialRecord


class Driver:
    """One launch of one study.

    In a deterministic study trials are issued in rounds of `spec.round`, and observed in order of number when a round
    has ended: what the sampler sees does not depend on the speed of workers.
    """

    def __init__(self, records: Records, gpus_per_trial: float = 0.0, ahead: int = 1) -> None:
        """Rebuild the observations from the records; trials without an outcome are issued again first.

        `ahead` is how many trials may be issued that wait for another's stage.
        """
        self.records = records
        self.spec = records.spec
        self._forecasts = Forecasts(self.spec, records.fingerprint.data_hash)
        self._sampling = Sampling(self.spec, self._forecasts.of)
        self._replicates = Replicates(self.spec, self._sampling)
        self._planned = self.spec.planned
        self._early = EarlyStopping(self.spec)
        self._screens = Screens(self.spec)
        self._tally = Tally(self.spec, gpus_per_trial)
        self._ahead = ahead
        self._order = Order()
        self._collector = StageCollector(records, lambda: table.front_stages(records.spec, records.trials()))
        self._running: dict[int, TrialRecord] = {}
        self._chains: dict[int, tuple[KeyedPhase, ...]] = {}
        self.trials = RunningTrials()
        """What is known of the trials that run."""
        self._points: dict[int, list[Point]] = {}
        self._partials: dict[int, list[PartialMeasurement]] = {}
        self._crashes: Counter[int] = Counter()
        self._unobserved: dict[int, tuple[TrialRecord, Outcome]] = {}
        self._stop_reason: str | None = None
        self.name = str(Holder.here())
        """The process of the driver, as other processes see it."""
        issued = records.trials()
        damaged = records.damaged()
        self._damaged, self._issued = len(damaged), len(issued) + len(damaged)
        self._taken = {trial.number for trial, _ in issued} | {bad.number for bad in damaged}
        self._next = self._free(0)
        self._replay(issued)

    def _replay(self, issued: list[tuple[TrialRecord, Outcome | None]]) -> None:
        """Observe what the records hold, in order: transferred points, then the trials."""
        transferred = self.records.warm_start_points()
        self._forecasts.store(transferred.stages)
        for point in transferred.points:
            params = completed(self.spec, point.params) or point.params
            self._sampling.add_transferred(point.study, params, *(self._judge(point.measured) or (None, [])))
        trials = [(self._completed(record), outcome) for record, outcome in issued]
        done = [record.params for record, _ in trials if record.sampler.get(ENQUEUED)]
        self._enqueued = [given for given in self.spec.enqueued() if given not in done]
        for record, stored in trials:
            outcome = stored or self._hung_before(record)
            self._observe_rounds_before(record.number)
            self._replicates.adopt(record)
            self._forecasts.issue(record)
            if outcome is None:
                trial = TrialSpec.model_validate(record.spec)
                chain = trial_spec.keyed_phases(trial, self.records.fingerprint.data_hash)
                self._order.add(record, trainings(chain))
                self._chains[record.number] = chain
                continue
            self._end(record, outcome, known=0, now=False)

    def _hung_before(self, record: TrialRecord) -> Outcome | None:
        """Record the end of a trial that hung and whose driver died before it could; None for all others."""
        report = self.records.take_worker_report(record.number)
        if report is None or report.kind != "timeout":
            return None
        self.records.write_outcome(_cut_short(record, (), (), report, 0.0))
        return self.records.outcome(record.number)

    def _completed(self, record: TrialRecord) -> TrialRecord:
        """Return a trial with the parameters that the space has been extended by since, at the values it had."""
        params = completed(self.spec, record.params)
        if params is None:
            raise StorageError(f"trial {record.number} of {self.records.storage.location} is outside the study's space")
        return record if params is record.params else record.model_copy(update={"params": params})

    def next(self) -> TrialRecord | None:
        """Return a trial to start, already recorded; None where none can start now, or ever (see `waiting`)."""
        record = self._order.take()
        while record is None and len(self._order) < self._ahead and self._may_issue():
            self._issue(self._next)
            record = self._order.take()
        if record is None:
            return None
        self._running[record.number] = record
        self._points.setdefault(record.number, [])
        self._partials.setdefault(record.number, [])
        self._tally.start(record.number)
        self.trials.start(record.number, self._chains[record.number], self._order.stored)
        return record

    @property
    def waiting(self) -> bool:
        """Whether trials may still start once others have ended, stored a stage, or crashed."""
        return bool(self._order) or bool(self._running) or self._next < self._planned

    def _free(self, first: int) -> int:
        """Return the smallest number from `first` that no record has, not even a damaged one."""
        return next(number for number in itertools.count(first) if number not in self._taken)

    def _may_issue(self) -> bool:
        if self._next >= self._planned:
            return False
        if not self.spec.deterministic:
            return True
        first = self._next - self._next % self.spec.round
        unended = (*self._running, *self._order)
        return all(other >= first for other in unended)

    def _issue(self, number: int) -> None:
        self._observe_rounds_before(number)
        given = self._enqueued[0] if self._enqueued else None
        asked, begins = self._replicates.ask(number, given)
        trial = self.spec.trial(asked["params"], asked.get("seed"))
        chain = trial_spec.keyed_phases(trial, self.records.fingerprint.data_hash)
        keys = tuple(step.key for step in chain)
        record = TrialRecord(
            number=number,
            study=self.spec.name,
            spec=plain(trial),
            keys=keys,
            issued=utc_now(),
            **{"seed": trial.seed, **asked},
        )
        self.records.issue(record)
        self._enqueued = self._enqueued[begins:]
        self._forecasts.issue(record)
        self._next = self._free(number + 1)
        self._issued += 1
        self._chains[number] = chain
        self._order.add(record, trainings(chain))

    def on_progress(self, number: int, phases_done: int, **reported: Any) -> None:
        """Note how many of its phases a trial has done: their results are stored.

        `reported` is what else its worker says; see `RunningTrials.report`.
        """
        if (record := self._running.get(number)) is not None:
            self._order.store(record.keys[:phases_done])
            self.trials.report(number, phases_done, **reported)

    def on_point(self, number: int, point: Point) -> None:
        """Observe a measured point; the last of a trial is observed when the trial ends."""
        points = self._points.setdefault(number, [])
        if any(known.measure == point.measure for known in points):
            return
        if points and number in self._running and not self.spec.deterministic:
            self._observe(self._running[number], points[-1])
        points.append(point)
        self.trials.measured(number, len(points), point.robust_accuracy)
        if number in self._running:
            self._early.point(self._running[number], point)

    def on_partial(self, number: int, partial: PartialMeasurement) -> None:
        """Note a partial measurement of a running trial, for early stopping; the sampler does not see it."""
        known = self._partials.get(number, [])
        same = ((other.measures, other.share) == (partial.measures, partial.share) for other in known)
        if number not in self._running or any(same):
            return
        known.append(partial)
        self.trials.measured(number, len(self._points[number]), partial.robust_accuracy)
        self._early.partial(self._running[number], partial)

    def stops(self, number: int) -> bool:
        """Return whether a running trial should stop early, by what it has measured so far."""
        return self._early.stops(number)

    def on_crash(self, number: int, known: Failure | None = None, wait: float = 0.0) -> Outcome | None:
        """Note that a trial's process died: the trial runs again, up to `max_failures` times, unless it hung.

        `known` is what the runner knows of the cause. The supervisor of the worker knows more: its report is waited for
        up to `wait` seconds.
        """
        record = self._running.get(number)
        if record is None:
            return None
        self._crashes[number] += 1
        report = self.records.take_worker_report(number, wait) or known
        if report is not None and report.kind == "timeout":
            return self.on_end(number, report)
        if self._crashes[number] > self.spec.max_failures or self.records.outcome(number) is not None:
            times, allowed = self._crashes[number], self.spec.max_failures
            report = report or Failure(kind="crashed", message="its process died")
            said = f"{report.message}, time {times}; max_failures is {allowed}"
            return self.on_end(number, report.model_copy(update={"message": said[:2000]}))
        del self._running[number]
        self.trials.end(number)
        self._order.again(record)
        return None

    def screen(self) -> dict[str, Any] | None:
        """Return what a trial that starts now screens its points against; None where nothing can be ruled out."""
        return self._screens.now()

    def on_end(self, number: int, crash: Failure | None) -> Outcome | None:
        """Record and observe the end of a trial.

        The worker has written the outcome, unless the trial was stopped early (it is recorded as stopped), its process
        crashed too often (`crash` says how: it is recorded as failed), or the launch ends (it stays unfinished).
        """
        record = self._running.pop(number, None)
        if record is None:
            return None
        self._order.end(number)
        self.trials.end(number)
        self._chains.pop(number, None)
        seconds = self._tally.stop(number)
        points, partials = self._points.pop(number, []), self._partials.pop(number, [])
        outcome = self.records.outcome(number)
        early = self.stops(number)
        if outcome is None and (early or crash is not None):
            failure = None if early else crash
            self.records.write_outcome(_cut_short(record, points, partials, failure, seconds))
            outcome = self.records.outcome(number)
        if outcome is None:
            return None
        self._end(record, outcome, known=max(0, len(points) - 1), now=True)
        if self.spec.stage_storage is not None:
            self._order.drop(self._collector.sweep(self.spec.stage_storage).dropped)
        self._stop_reason = self._stop_reason or self._tally.same_failure()
        return outcome

    def _end(self, record: TrialRecord, outcome: Outcome, *, known: int, now: bool) -> None:
        """Count an ended trial, and observe it, in a deterministic study when its round has ended."""
        self._tally.end(record, outcome, now=now)
        if outcome.state == "complete":
            self._order.store(record.keys)
        if self.spec.deterministic:
            self._unobserved[record.number] = record, outcome
        else:
            self._observe_end(record, outcome, known)

    def _observe_rounds_before(self, number: int) -> None:
        """Observe what has ended in the rounds before that of trial `number`."""
        first = number - number % self.spec.round
        for ended in sorted(n for n in self._unobserved if n < first):
            record, outcome = self._unobserved.pop(ended)
            self._observe_end(record, outcome, known=0)

    def _observe_end(self, record: TrialRecord, outcome: Outcome, known: int) -> None:
        """Observe an ended trial: the points after the first `known`, and how it ended."""
        on_the_way = outcome.points[:-1] if outcome.state == "complete" else outcome.points
        for point in on_the_way[known:]:
            self._observe(record, point)
        self._tell(record, outcome)
        self._forecasts.end(record, outcome)
        self._early.end(record, outcome)
        self._screens.add(outcome)

    def _observe(self, record: TrialRecord, point: Point) -> None:
        if point.epoch is not None:
            return
        params = params_measured(self.spec.space, record.params, point.stands_for, record.spec["recipe"].get)
        if params is None or params == record.params:
            return
        self._replicates.add_observation(record, params, self._judge(point))

    def _tell(self, record: TrialRecord, outcome: Outcome) -> None:
        measured: list[Point | PartialMeasurement] = [*outcome.rungs, *outcome.points]
        last = measured[-1] if measured else None
        judged = self._judge(last) if last and outcome.state != "failed" else None
        # A trial whose last point was screened has no values; it is bad, and it has not failed.
        screened = isinstance(last, Point) and last.tier == "screened"
        self._replicates.tell(record, "stopped" if screened else outcome.state, judged)

    def _judge(self, point: objectives.Measured) -> Judged | None:
        if not objectives.trusted(point, self.spec):
            return None
        violations = [*objectives.violations(point, self.spec), *objectives.target_violations(point, self.spec)]
        return objectives.values(point, self.spec), violations

    def stop_reason(self) -> str | None:
        """Return why no more trials should run although the budget of trials is not spent, or None."""
        if self._stop_reason is None:
            self._stop_reason = self._tally.spent()
        return self._stop_reason

    def failures(self) -> list[Outcome]:
        """Return the failed trials, in order of number."""
        return self._tally.failures()

    def snapshot(self) -> Snapshot:
        """Return how far the launch is."""
        return self._tally.snapshot(
            len(self._running),
            sum(len(points) for points in self._points.values()),
            self.trials.now(),
            issued=self._issued,
            damaged=self._damaged,
            driver=self.name,
        )

    def running(self) -> Running:
        """Return the trials that run, and the seconds that the launch still needs; any thread may ask."""
        trials = self.trials.now()
        return Running(trials, self._tally.remaining(trials))

    @property
    def elapsed(self) -> float:
        """Seconds since this launch began."""
        return self._tally.elapsed

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return self._tally.ended


def _cut_short(
    record: TrialRecord,
    points: Sequence[Point],
    partials: Sequence[PartialMeasurement],
    failure: Failure | None,
    seconds: float,
) -> Outcome:
    """Return the outcome of a trial whose worker wrote none: failed, or stopped early."""
    now = utc_now()
    return Outcome(
        number=record.number,
        state="failed" if failure else "stopped",
        points=tuple(points),
        rungs=tuple(partials),
        failure=failure,
        started=now,
        finished=now,
        seconds=seconds,
        params=record.params,
    )
