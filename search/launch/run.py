"""A launch from end to end: take the lease, connect, probe, create or open the study, run, return how it ended."""

from __future__ import annotations

import os
import time
from bdb import BdbQuit
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from search.cluster import folder, watchdog
from search.cluster.base import ClusterError, Connection
from search.cluster.watchdog import Interrupt, Watchdog
from search.files.messages import counted
from search.launch import probe
from search.launch.cautions import cautions
from search.launch.code import code_paths
from search.launch.ending import NotStarted as NotStarted
from search.launch.ending import ending, interrupted, interrupted_code, resumes
from search.launch.plan import Plan
from search.launch.prepare import create_or_update, with_precision, with_sizes
from search.launch.running import STARTING
from search.results.study import Ending, Study
from search.store import driver_lock, leftovers, live
from search.store.records import Records
from search.study.space_check import corner_trials
from trainables.core.errors import RobustsearchError, StorageError
from trainables.recipes.trial import TrialSpec
from trainables.store import paths
from trainables.store.lease import STALE_AFTER, Lease, LeaseHeld

if TYPE_CHECKING:
    from search.results.progress import Snapshot

Say = Callable[[str], None]
View = Callable[[Any], None]

LEAVING_SECONDS = 20.0
"""How long a launch may take to leave the cluster; one that died keeps Ray for a minute, and ends the process then."""


ALONE_SECONDS = 10.0
"""How long the first trials have to start before anything that only shows them does."""

LEASE_SECONDS = 1.0
"""How often a launch that waits for a lease looks whether it is free."""


def launch(plan: Plan, *, view: View, say: Say, wait: float = 0.0, owns_process: bool = False) -> Study:
    """Run a planned study until its budget is spent or the user stops it; return it with its ending.

    `view` is given a `search.launch.tally.Snapshot` about once a second. The launch waits up to `wait` seconds for the
    lease of another one, and again for nodes and room on the cluster. With `owns_process` the process is ended where
    the cluster died and Ray does not return.

    Raises:
        SpecError, StorageError, ClusterError, LeaseHeld: before any trial starts.
        NotStarted: the launch was stopped before there was a study.
    """
    interrupt = watchdog.catching() or Interrupt()
    with interrupt.caught():
        running, ended = _launched(plan, view, say, wait, owns_process, interrupt)
    if running.records is None:
        raise NotStarted(ended)
    return Study(running.records, ended)


def _launched(
    plan: Plan, view: View, say: Say, wait: float, owns_process: bool, interrupt: Interrupt
) -> tuple[Launch, Ending]:
    """Run a launch under the study's lease; a directory without a study is removed again."""
    fresh = plan.storage.local is not None and not plan.storage.has_directory()
    try:
        with _lease(plan, wait, say, interrupt) as lease:
            if lease.before:
                say(f"took over the study from {lease.before}, which no longer runs")
            if plan.outdated():
                say(f"{plan.storage.location} was changed by another launch in the meantime; it is read again")
                plan = plan.again()
            running = Launch(plan, lease, view, say, wait, owns_process, interrupt)
            return running, running.run()
    finally:
        local = plan.storage.local
        if fresh and local and os.path.isdir(local) and not plan.storage.names(""):
            os.rmdir(local)


def _lease(plan: Plan, wait: float, say: Say, interrupt: Interrupt) -> Lease:
    """Take the lease of the study, for which another launch, perhaps a dead one, has `wait` seconds.

    Raises:
        LeaseHeld: it is still held when the time is over.
        NotStarted: a signal or a request to stop came meanwhile.
    """
    until, told = time.monotonic() + wait, False
    # What was asked of the other launch, which may be dead, is not for this one.
    stopped_before = driver_lock.stop_requested(plan.storage)
    while True:
        try:
            return driver_lock.acquire(plan.storage)
        except LeaseHeld as busy:
            left = until - time.monotonic()
            if left <= 0:
                raise LeaseHeld(f"{busy}; waited {wait:g} s" if wait else str(busy), busy.by) from None
            if not told:
                say(f"waiting up to {wait:g} s for the lease of {plan.storage.location}: {_holder(busy)}")
            told = True
        if interrupt.signal is not None or (not stopped_before and driver_lock.stop_requested(plan.storage)):
            raise NotStarted(_not_begun(plan, interrupt))
        time.sleep(min(left, LEASE_SECONDS))


def _holder(busy: LeaseHeld) -> str:
    """Return who holds a lease, and how long nothing has been heard of it."""
    if busy.by is None:
        return "another launch is taking it over"
    silent = max(0.0, time.time() - busy.by.heartbeat)
    dead = f"it counts as dead {STALE_AFTER:.0f} s after its last sign of life, which is {silent:.0f} s ago"
    return f"{busy.by} holds it; {dead}"


def _not_begun(plan: Plan, interrupt: Interrupt) -> Ending:
    then = resumes(plan.storage) if plan.exists else "the same command starts it"
    return Ending(interrupted_code(interrupt.signal), f"stopped before the first trial; {then}")


class Launch:
    """One launch that holds its study's lease."""

    def __init__(
        self, plan: Plan, lease: Lease, view: View, say: Say, wait: float, owns_process: bool, interrupt: Interrupt
    ) -> None:
        self.records = plan.records
        """The study's records; None until a new study is created."""
        self._plan = plan
        self._storage = plan.storage
        self._lease = lease
        self._view = _Guarded(view, say)
        self._say = say
        self._wait = wait
        self._interrupt = interrupt
        self._ended: Ending | None = None
        self._watchdog = Watchdog(self._interrupt, self._last_words if owns_process else None)
        self._trials: list[TrialSpec] = list(corner_trials(plan.spec.space, plan.spec.trial))

    def run(self) -> Ending:
        """Connect to the cluster, and run the trials there."""
        try:
            with self._watchdog.watching():
                return self._connect()
        except (KeyboardInterrupt, BdbQuit):  # Whoever quits a debugger wants the launch to end.
            return self._ended or self._interrupted()
        except Exception as error:
            if not self._expected(error):
                raise
            return self._ended or self._interrupted()

    def _expected(self, error: Exception) -> bool:
        """Return whether the cluster died, or a signal that its processes received too ended them."""
        own = isinstance(error, RobustsearchError) and not isinstance(error, ClusterError)
        signalled = self._interrupt.signal is not None and self._plan.cluster.runner == "tune"
        return not own and (self._interrupt.cluster_died or signalled)

    def _connect(self) -> Ending:
        """Run the trials while connected; the cluster is watched while it starts, runs and is left."""
        cluster = self._plan.cluster
        code = code_paths(cluster, self._plan.spec.plugins)
        if self._stop_requested():
            return self._not_begun()
        with ExitStack() as stack:
            with self._watchdog.over(cluster.starting()):
                connection = stack.enter_context(cluster.connect(code, self._load))
            try:
                with self._watchdog.over(connection.alive):
                    self._ended = self._probe(connection)
            finally:
                with self._watchdog.over(for_seconds(LEAVING_SECONDS)):
                    stack.close()
        return self._ended

    def _load(self) -> None:
        """Import what the search needs, in the seconds in which the cluster starts."""
        with suppress(Exception):  # It fails again where it is needed.
            from search.launch.driver import Driver  # noqa: F401

            _runner(self._plan.cluster.runner)
            self._plan.spec.sampler.load()

    def _probe(self, connection: Connection) -> Ending:
        """Wait for room, probe workers, and run the trials if they can."""
        if not connection.wait_for_room(self._wait, cancelled=self._stop_requested, say=self._say):
            return self._not_begun()
        if connection.nodes > 1 and self._storage.local:
            nodes = f"all {connection.nodes} nodes"
            self._say(f"storage {self._storage.location} must be a directory that {nodes} share")
        asked = probe.request(self._plan.spec, self._trials, self._storage.address)
        try:
            found = connection.probe(asked, cancelled=self._stop_requested, say=self._say)
        except BdbQuit:
            found = None
        return self._not_begun() if found is None else self._search(connection, found)

    def _not_begun(self) -> Ending:
        return _not_begun(self._plan, self._interrupt)

    def _search(self, connection: Connection, found: dict[str, Any]) -> Ending:
        """Run the trials of a study that a worker has probed."""
        probe.check_images(self._trials, found["train"])
        spec = with_precision(self._plan.spec, found["precision"])
        if not self._plan.exists:
            spec = with_sizes(spec, sparse=found["sparse"])
        records = create_or_update(spec, self._storage, self.records, found, self._say, self._plan.effects)
        self.records = records
        if self._plan.exists:
            leftovers.sweep(self._storage)
        # Everything that loads Optuna comes after the checks, which answer faster without it.
        from search.launch.driver import Driver

        cluster = self._plan.cluster
        driver = Driver(records, cluster.gpus_per_trial, ahead=2 * connection.capacity)
        for line in probe.shares(found):
            self._say(line)
        for caution in cautions(self._trials):
            self._say(f"caution: {caution}")
        self._say(_beginning(records, connection.capacity, found))
        for note in found.get("notes", ()):
            self._say(f"data: {note}")
        for view in connection.views():
            self._say(view)

        def should_end() -> bool:
            self._lease.check()
            return self._stop_requested() or self._interrupt.cluster_died or driver.stop_reason() is not None

        def shown(snapshot: Snapshot) -> None:
            fits = connection.fits_now(snapshot.target - snapshot.finished)
            self._view(snapshot if fits is None else replace(snapshot, fits=fits))
            if snapshot.elapsed > ALONE_SECONDS or any(trial.phase != STARTING for trial in snapshot.trials):
                for view in connection.views():
                    self._say(view)

        run = _runner(cluster.runner)
        header = live.Header(self._lease.token, time.time() - driver.elapsed, driver.ended)
        with live.Writer(self._storage, header, driver.running):
            run(driver, cluster, connection.capacity, self._storage.address, view=shown, should_end=should_end)
        if self._interrupt.cluster_died:
            return self._interrupted()
        leftovers.sweep(self._storage)
        return ending(driver, self._interrupt.signal)

    def _stop_requested(self) -> bool:
        return self._interrupt.signal is not None or self._lease.requested()

    def _interrupted(self) -> Ending:
        died = self._interrupt.cluster_died
        return interrupted(self._storage, self._interrupt.received(), cluster_died=died)

    def _last_words(self) -> int:
        """Release the lease and say how the launch ended, where the process has to be ended."""
        self._lease.release()
        with suppress(StorageError):
            self._storage.delete(paths.LIVE)
        ended = self._ended or self._interrupted()
        self._say(ended.message)
        folder.remove_all()
        return int(ended.exit_code)


class _Guarded:
    """A view, which may be a user's: one that raises is not shown again, and the search goes on."""

    def __init__(self, view: View, say: Say) -> None:
        self._view: View | None = view
        self._say = say

    def __call__(self, snapshot: Any) -> None:
        if self._view is None:
            return
        try:
            self._view(snapshot)
        except BdbQuit:
            raise
        except Exception as error:
            self._view = None
            self._say(f"the view failed, and the search goes on without it: {type(error).__name__}: {error}")


def for_seconds(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() < until


def _runner(name: str) -> Callable[..., None]:
    """Return what runs trials on a cluster; Ray is loaded only where it does."""
    if name == "inline":
        from search.launch import inline

        return inline.run
    from search.launch import tune

    return tune.run


def _beginning(records: Records, capacity: int, found: dict[str, Any]) -> str:
    spec = records.spec
    return (
        f"{spec.name}: {counted(spec.planned, 'trial')}, "
        f"{capacity} at once on {found['device']}, "
        f"{found['precision']}; {found['train']} training and {found['validation']} validation images; "
        f"in {records.storage.location}"
    )
