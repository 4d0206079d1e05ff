"""A launch from end to end: take the lease, connect, probe, create or open the study, run, return how it ended."""

from __future__ import annotations

import os
from bdb import BdbQuit
from collections.abc import Callable
from typing import Any

from search.cluster.base import Connection
from search.cluster.watchdog import Interrupt, Watchdog
from search.launch import probe
from search.launch.code import code_paths
from search.launch.ending import ending, interrupted, interrupted_code
from search.launch.plan import Plan
from search.launch.prepare import create_or_update, with_precision
from search.results.study import Ending, Study
from search.store import driver_lock, leftovers
from search.store.records import Records
from search.study.space_check import corner_trials
from trainables.core.errors import RobustsearchError
from trainables.recipes.trial import TrialSpec
from trainables.store.lease import Lease

Say = Callable[[str], None]
View = Callable[[Any], None]


class NotStarted(RobustsearchError):
    """A launch was stopped before there was a study; `ending` says how."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending
        self.exit_code = ending.exit_code


def launch(plan: Plan, *, view: View, say: Say, owns_process: bool = False) -> Study:
    """Run a planned study until its budget is spent or the user stops it; return it with its ending.

    `view` is given a `search.launch.tally.Snapshot` about once a second. With `owns_process` the process is ended
    where the cluster died and Ray does not return.

    Raises:
        SpecError, StorageError, ClusterError, LeaseHeld: before any trial starts.
        NotStarted: the launch was stopped before there was a study.
    """
    fresh = not plan.storage.exists("")
    try:
        with driver_lock.acquire(plan.storage) as lease:
            if lease.before:
                say(f"took over the study from {lease.before}, which no longer runs")
            if plan.outdated():
                say(f"{plan.storage.location} was changed by another launch in the meantime; it is read again")
                plan = plan.again()
            running = Launch(plan, lease, view, say, owns_process)
            ended = running.run()
    finally:
        local = plan.storage.local
        if fresh and local and os.path.isdir(local) and not plan.storage.names(""):
            os.rmdir(local)
    if running.records is None:
        raise NotStarted(ended)
    return Study(running.records, ended)


class Launch:
    """One launch that holds its study's lease."""

    def __init__(self, plan: Plan, lease: Lease, view: View, say: Say, owns_process: bool) -> None:
        self.records = plan.records
        """The study's records; None until a new study is created."""
        self._plan = plan
        self._storage = plan.storage
        self._lease = lease
        self._view = _Guarded(view, say)
        self._say = say
        self._interrupt = Interrupt()
        self._watchdog = Watchdog(self._interrupt, self._last_words if owns_process else None)
        self._trials: list[TrialSpec] = list(corner_trials(plan.spec.space, plan.spec.trial))

    def run(self) -> Ending:
        """Connect to the cluster, and run the trials there."""
        cluster = self._plan.cluster
        with (
            self._watchdog.watching(),
            cluster.connect(code_paths(cluster, self._plan.spec.plugins)) as connection,
            self._watchdog.over(connection.alive),
            self._interrupt.caught(),
        ):
            if connection.nodes > 1 and self._storage.local:
                nodes = f"all {connection.nodes} nodes"
                self._say(f"storage {self._storage.location} must be a directory that {nodes} share")
            asked = probe.request(self._plan.spec, self._trials, self._storage.location)
            try:
                found = connection.probe(asked, cancelled=self._stop_requested, say=self._say)
            except BdbQuit:
                found = None
            if found is None:
                return Ending(interrupted_code(self._interrupt.signal), "stopped before the first trial")
            return self._search(connection, found)

    def _search(self, connection: Connection, found: dict[str, Any]) -> Ending:
        """Run the trials of a study that a worker has probed."""
        probe.check_images(self._plan.spec, self._trials, found["train"], found["validation"])
        spec = with_precision(self._plan.spec, found["precision"])
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
        self._say(_beginning(records, connection.capacity, found))
        for note in found.get("notes", ()):
            self._say(f"data: {note}")
        if connection.dashboard:
            self._say(f"Ray dashboard: {connection.dashboard}")

        def should_end() -> bool:
            self._lease.check()
            return self._stop_requested() or self._interrupt.cluster_died or driver.stop_reason() is not None

        run = _runner(cluster.runner)
        try:
            run(driver, cluster, connection.capacity, self._storage.location, view=self._view, should_end=should_end)
        except (KeyboardInterrupt, BdbQuit):  # Whoever quits a debugger wants the launch to end.
            return self._interrupted()
        except Exception:
            if self._interrupt.cluster_died:  # Whatever Ray makes of that.
                return self._interrupted()
            raise
        if self._interrupt.cluster_died:
            return self._interrupted()
        leftovers.sweep(self._storage)
        return ending(driver, self._interrupt.signal)

    def _stop_requested(self) -> bool:
        return self._interrupt.signal is not None or driver_lock.stop_requested(self._storage)

    def _interrupted(self) -> Ending:
        died = self._interrupt.cluster_died
        return interrupted(self._storage, self._interrupt.signal, cluster_died=died)

    def _last_words(self) -> int:
        """Release the lease and say how the launch ended, where the process has to be ended."""
        self._lease.release()
        ended = self._interrupted()
        self._say(ended.message)
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
        f"{spec.name}: {spec.budget.trials} trial{'' if spec.budget.trials == 1 else 's'}, "
        f"{capacity} at once on {found['device']}, "
        f"{found['precision']}; {found['train']} training and {found['validation']} validation images; "
        f"in {records.storage.location}"
    )
