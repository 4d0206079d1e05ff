"""A confirmation from end to end: take the study's lease, retrain, measure, and return how it ended."""

from __future__ import annotations

import statistics
import time
from bdb import BdbQuit
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from search.cluster import folder, watchdog
from search.cluster.base import ClusterError, Connection
from search.cluster.watchdog import Interrupt, Watchdog
from search.early_stopping.base import Off
from search.files.messages import counted
from search.launch import run
from search.launch.code import code_paths
from search.launch.confirm_plan import ConfirmPlan, names
from search.launch.ending import interrupted_code
from search.launch.plan import Plan
from search.launch.run import LEAVING_SECONDS, Say, View
from search.results.study import Ending
from search.samplers.registry import SAMPLERS
from search.store import catalogue, confirmations, driver_lock
from search.store.records import Records, set_aside
from search.study.spec import Budget, StudySpec
from trainables.core.errors import ExitCode, RobustsearchError
from trainables.store import paths
from trainables.store.confirmations import Confirmation, examples_name
from trainables.store.confirmations import read as read_result
from trainables.store.lease import Lease

REMOTE_LOOK_EVERY = 5.0
"""Seconds between two looks for results on an object store, each a request for every network."""
INTERRUPTED = (ExitCode.INTERRUPTED, ExitCode.TERMINATED, ExitCode.HANGUP)


@dataclass(frozen=True)
class ConfirmSnapshot:
    """How far a confirmation is: results and networks done of all, and what is left. Units: seconds."""

    study: str
    doing: str
    done: int
    total: int
    networks_done: int
    networks: int
    elapsed: float
    remaining: float | None


def confirm(
    plan: ConfirmPlan,
    *,
    view: Callable[[ConfirmSnapshot], None],
    launch_view: View,
    say: Say,
    owns_process: bool = False,
) -> Ending:
    """Retrain and measure what is planned and not there yet, and return how it ended; the first signal ends it.

    `view` is given a snapshot about once a second while networks are measured, `launch_view` one of
    `search.results.progress` while they are retrained. With `owns_process` the process is ended where the cluster died
    and Ray does not return.

    Raises:
        RobustsearchError: before anything is measured.
    """
    interrupt = watchdog.catching() or Interrupt()
    with interrupt.caught(), driver_lock.acquire(plan.storage) as lease:
        return _Confirmation(plan, lease, interrupt, view, launch_view, say, owns_process).run()


class _Confirmation:
    """One confirmation that holds its study's lease."""

    def __init__(
        self,
        plan: ConfirmPlan,
        lease: Lease,
        interrupt: Interrupt,
        view: Callable[[ConfirmSnapshot], None],
        launch_view: View,
        say: Say,
        owns_process: bool,
    ) -> None:
        self._owns_process = owns_process
        self._plan, self._lease, self._interrupt, self._say = plan, lease, interrupt, say
        self._view, self._launch_view = view, launch_view
        self._progress = Progress(plan)
        self._failures: list[str] = []
        self._errors: set[tuple[str, int]] = set()

    def run(self) -> Ending:
        """Retrain with each further seed, and measure what there is of each."""
        plan = self._plan
        for path in self._damaged():
            self._say(f"{path} was damaged: it is kept as {set_aside(plan.storage, path)}, and measured again")
        try:
            for seed in plan.seeds:
                ended = None if seed == plan.spec.seed else self._retrained(seed)
                ended = ended or self._measured(seed)
                if ended is not None:
                    return ended
        except (KeyboardInterrupt, BdbQuit):
            return self._stopped()
        return self._ending()

    def _damaged(self) -> list[str]:
        return [bad.path for bad in confirmations.read(self._plan.storage).damaged]

    def _stop_requested(self) -> bool:
        self._lease.check()
        signalled = self._interrupt.signal is not None or self._interrupt.cluster_died
        return signalled or self._lease.requested()

    def _retrained(self, seed: int) -> Ending | None:
        """Train the points with another seed, as a study of its own; return an ending where it was stopped."""
        plan, storage = self._plan, self._plan.seed_storage(seed)
        records = Records.open(storage, plugins=True) if Records.exist(storage) else None
        spec = seed_study(plan, seed, records)
        if records is not None and spec == records.spec and not self._untrained(records):
            return None
        self._say(f"retraining {counted(len(plan.again), 'point')} with seed {seed}")

        def again() -> Plan:
            return Plan(spec, plan.cluster, storage, Records.open(storage, plugins=True), (), again)

        def view(snapshot: Any) -> None:
            if self._lease.requested():
                driver_lock.request_stop(storage)
            self._launch_view(snapshot)

        planned = Plan(spec, plan.cluster, storage, records, (), again)
        try:
            ending = run.launch(planned, view=view, say=self._say, owns_process=self._owns_process).ending
        except run.NotStarted as early:
            ending = early.ending
        assert ending is not None
        if ending.exit_code in INTERRUPTED:
            return self._stopped()
        if ending.exit_code in (ExitCode.CLUSTER, ExitCode.STORAGE):
            return ending
        if ending.exit_code == ExitCode.TRIALS_FAILED:
            self._failures.append(f"seed {seed}: {ending.message}")
        return None

    def _untrained(self, records: Records) -> bool:
        return records.next_number() < records.spec.planned or bool(records.unfinished())

    def _measured(self, seed: int) -> Ending | None:
        """Run the jobs of a seed on the cluster; return an ending where it was stopped."""
        jobs = self._plan.jobs(seed)
        self._progress.forget(seed)
        if not jobs:
            return None
        cluster = self._plan.cluster
        code = code_paths(cluster, self._plan.spec.plugins)
        dog = Watchdog(self._interrupt, self._last_words if self._owns_process else None)
        try:
            with dog.watching(), ExitStack() as stack:
                with dog.over(cluster.starting()):
                    connection = stack.enter_context(cluster.connect(code))
                try:
                    with dog.over(connection.alive):
                        if connection.wait_for_room(0.0, cancelled=self._stop_requested, say=self._say):
                            self._run(connection, jobs, seed)
                finally:
                    with dog.over(run.for_seconds(LEAVING_SECONDS)):
                        stack.close()
        except Exception as error:
            own = isinstance(error, RobustsearchError) and not isinstance(error, ClusterError)
            if own or not (self._interrupt.cluster_died or self._interrupt.signal is not None):
                raise
        return self._stopped() if self._stop_requested() else None

    def _run(self, connection: Connection, jobs: list[dict[str, Any]], seed: int) -> None:
        doing = "measuring" if seed == self._plan.spec.seed else f"measuring the networks of seed {seed}"
        where = f"{connection.capacity} at once" if connection.capacity > 1 else "one at a time"
        self._say(f"{doing}: {counted(len(jobs), 'job')}, {where}")

        pause, looked = 0.0 if self._plan.storage.local is not None else REMOTE_LOOK_EVERY, time.monotonic()

        def look() -> None:
            nonlocal looked
            if time.monotonic() - looked >= pause:
                self._view(self._progress.snapshot(doing, connection.capacity))
                looked = time.monotonic()

        for number, answer in connection.confirm(jobs, cancelled=self._stop_requested, look=look):
            if "error" in answer:
                self._failures.append(f"{jobs[number]['title']} ({answer['kind']}): {answer['error']}")
                self._errors.add((answer["error"], answer["exit_code"]))
                self._say(f"failed: {self._failures[-1]}")
        pause = 0.0
        look()

    def _stopped(self) -> Ending:
        resumes = f"`robustsearch confirm {catalogue.arguments(self._plan.storage)}` with the same options resumes it"
        if self._interrupt.cluster_died and self._interrupt.signal is None:
            return Ending(ExitCode.CLUSTER, f"the Ray cluster has died; {resumes}")
        return Ending(interrupted_code(self._interrupt.signal), f"stopped: {self._progress}; {resumes}")

    def _last_words(self) -> int:
        """Release the lease and say how it ended, where the process has to be ended."""
        self._lease.release()
        ended = self._stopped()
        self._say(ended.message)
        folder.remove_all()
        return int(ended.exit_code)

    def _ending(self) -> Ending:
        if len(self._errors) == 1 and not self._progress.done():  # Nothing can be measured, as without data.
            ((said, code),) = self._errors
            return Ending(ExitCode(code), said)
        if self._failures:
            more = f"; and {len(self._failures) - 1} more" if len(self._failures) > 1 else ""
            return Ending(ExitCode.TRIALS_FAILED, f"{self._progress}; failed: {self._failures[0]}{more}")
        if not self._plan.study.confirmed_front(self._plan.limit or "all"):
            return Ending(ExitCode.NO_FEASIBLE_POINT, f"{self._progress}; no confirmed point is feasible")
        return Ending(ExitCode.DONE, f"confirmed: {self._progress}")


class Progress:
    """What is measured of what is planned, read from the results on disk, each once."""

    def __init__(self, plan: ConfirmPlan) -> None:
        self._plan = plan
        self._began = time.monotonic()
        self._seconds: dict[str, tuple[str, float]] = {}
        self._planned: dict[int, dict[str, list[str]]] = {}

    def __str__(self) -> str:
        last = self.snapshot("", 1)
        return f"{last.networks_done} of {last.networks} networks, {last.done} of {last.total} results"

    def done(self) -> int:
        """Return how many results there are."""
        return self.snapshot("", 1).done

    def snapshot(self, doing: str, at_once: int) -> ConfirmSnapshot:
        """Count the results, and forecast the rest by what results of the same attacks have taken."""
        done = whole = total = 0
        left: list[str] = []
        for seed in self._plan.seeds:
            for weights, planned in self._networks(seed).items():
                have = self._read(weights)
                missing = [name for name in planned if name not in have]
                left += missing
                total += len(planned)
                done += len(planned) - len(missing)
                whole += not missing
        count = sum(len(self._plan.of_seed(seed)) for seed in self._plan.seeds)
        remaining = self._forecast(left, at_once)
        elapsed = time.monotonic() - self._began
        return ConfirmSnapshot(self._plan.spec.name, doing, done, total, whole, count, elapsed, remaining)

    def forget(self, seed: int) -> None:
        """Look again for the networks of a seed, which have been retrained."""
        self._planned.pop(seed, None)

    def _networks(self, seed: int) -> dict[str, list[str]]:
        """Return the names of the results of each network of a seed, by its weights."""
        if seed not in self._planned:
            networks = self._plan.networks(seed)
            found = {each.point.weights_sha256: names(self._plan.steps(each, networks)) for each in networks}
            if not found:
                return found
            self._planned[seed] = found
        return self._planned[seed]

    def _read(self, weights: str) -> set[str]:
        have = self._plan.stored(weights)
        for name in have:
            path = paths.confirmation(weights, examples_name(self._plan.limit), name)
            if path not in self._seconds:
                found = read_result(self._plan.storage, path)
                if isinstance(found, Confirmation):
                    self._seconds[path] = name, found.seconds
        return have

    def _forecast(self, left: list[str], at_once: int) -> float | None:
        taken: defaultdict[str, list[float]] = defaultdict(list)
        for name, seconds in self._seconds.values():
            taken[_kind(name)].append(seconds)
        if not all(_kind(name) in taken for name in left):
            return None
        return sum(statistics.fmean(taken[_kind(name)]) for name in left) / max(1, at_once)


def _kind(name: str) -> str:
    """Return what results of about the same cost have in common: transfers differ in their source alone."""
    return name.partition("-")[0] if name.startswith("transfer-") else name


def seed_study(plan: ConfirmPlan, seed: int, stored: Records | None) -> StudySpec:
    """Return the study that trains the chosen points again with another seed: their parameters, and no search.

    Those that a stored study has already come first.
    """
    before = [dict(given) for given in stored.spec.enqueue] if stored else []
    wanted = [dict(row.params) for row in plan.again]
    params = [*before, *(given for at, given in enumerate(wanted) if given not in before and given not in wanted[:at])]
    changes: dict[str, Any] = {
        "name": confirmations.seed_name(seed),
        "description": f"the front of {plan.spec.name}, trained again with seed {seed}",
        "seed": seed,
        "seeds": (),
        "enqueue": tuple(params),
        "budget": Budget(trials=len(params)),
        "sampler": SAMPLERS["qmc"].model_validate({}),
        "early_stopping": Off(),
        "screening": None,
        "warm_start": (),
        "target": {},
        "stage_storage": None,
        "deterministic": False,
    }
    return plan.spec.model_copy(update=changes)
