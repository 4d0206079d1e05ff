"""A launch that runs in a job on a cluster: submit it, follow its records, leave it alone or stop it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from search.cluster import watchdog
from search.cluster.base import ClusterError
from search.cluster.carriers.base import Carrier, Remote, State, Submission
from search.cluster.watchdog import Interrupt
from search.launch import jobs
from search.launch.code import code_paths
from search.launch.ending import NotStarted, interrupted_code
from search.launch.jobs import Job
from search.launch.plan import Plan
from search.launch.prepare import with_precision, with_sizes
from search.results import progress
from search.results.progress import Snapshot
from search.results.study import Ending, Study
from search.results.watching import Seen, Watched
from search.store import catalogue, driver_lock
from search.study import file as study_file
from trainables.core.errors import ExitCode, RobustsearchError, SpecError
from trainables.store import paths
from trainables.store.storage import Storage

Say = Callable[[str], None]
View = Callable[[Snapshot], None]
Choice = Literal["detach", "stop"]

LOOK_EVERY = 1.0
"""Seconds between two looks at the records."""
STATE_EVERY = 10.0
"""Seconds between two questions to the cluster, whose controller serves many users."""
LOG_LINES = 20
"""How many of the last lines of a job's log are shown where it ended before there was a study."""


def submission(plan: Plan, *, allow_change: bool = False) -> Submission:
    """Return what a carrier brings to the cluster for a plan."""
    return Submission(
        study=plan.spec.name,
        study_yaml=study_file.dump(plan.spec),
        storage=plan.storage.parent().location,
        storage_options=plan.storage.options.plain() if plan.storage.options else {},
        words=("--allow-change",) if allow_change else (),
        code=code_paths(plan.cluster, plan.spec.plugins),
    )


def carrier_of(plan: Plan) -> Carrier:
    """Return what carries a plan to its cluster."""
    assert isinstance(plan.cluster, Remote)
    return plan.cluster.carrier(submission(plan, allow_change=bool(plan.effects)))


def submit(plan: Plan, say: Say) -> Job:
    """Submit a plan, or find the job that runs its study already.

    Raises:
        ClusterError: the cluster refuses the job, or cannot be reached.
        SpecError: the job that runs was submitted with another version of the study.
        LeaseHeld: a launch drives the study that is not a job.
    """
    assert isinstance(plan.cluster, Remote)
    before = Job.read(plan.storage)
    if before is not None and not before.carrier(plan.storage).state(before.id).over:
        _refuse_another_version(plan, before)
        say(f"job {before.id} ({before.kind}) already runs this study; following it")
        return before
    driver = driver_lock.driver(plan.storage)
    # The driver of a job that is over was killed; its lease lives on for a minute, for which the new job waits.
    if driver is not None and (before is None or driver.started < before.submitted):
        driver_lock.refuse_second(plan.storage)
    # A refused job leaves nothing behind.
    job = Job(carrier_of(plan).submit(), time.time(), plan.cluster.recorded())
    say(f"submitted as job {job.id} ({job.kind})")
    plan.storage.write(paths.SUBMITTED, study_file.dump(plan.spec).encode())
    job.write(plan.storage)
    return job


def _refuse_another_version(plan: Plan, job: Job) -> None:
    with suppress(FileNotFoundError):
        text = plan.storage.read(paths.SUBMITTED).decode()
        before = study_file.loads(text, f"{plan.storage.location}/{paths.SUBMITTED}")
        before = with_precision(before, plan.spec.recipe.train.precision)
        if with_sizes(before, sparse=plan.spec.sparse) != plan.spec:
            name = catalogue.arguments(plan.storage)
            raise SpecError(
                f"job {job.id} ({job.kind}) runs another version of {plan.spec.name}; "
                f"end it with `robustsearch stop {name}`, then launch again"
            )


def commands(study: Storage) -> tuple[str, str]:
    """Return the two commands by which a job that nobody follows is watched and ended."""
    name = catalogue.arguments(study)
    return f"robustsearch status {name}", f"robustsearch stop {name}"


def launch(plan: Plan, *, view: View, say: Say, ask: Callable[[], Choice] | None = None) -> Study:
    """Submit a plan and follow its study to the end of the job; return it with its ending.

    The first signal leaves the job alone, unless `ask` is given and answers that it is to be stopped.

    Raises:
        NotStarted: the job ended before there was a study, or was left alone before.
        RobustsearchError: as `submit`.
    """
    interrupt = watchdog.catching() or Interrupt()
    with interrupt.caught():
        job = submit(plan, say)
        following = _Following(plan, job, view, say, ask, interrupt)
        ended = following.run()
    if following.watched.study is None:
        raise NotStarted(ended)
    return Study(following.watched.study.records, ended)


class _Following:
    """One job, followed by the records of its study and by what the cluster says of it."""

    def __init__(
        self, plan: Plan, job: Job, view: View, say: Say, ask: Callable[[], Choice] | None, interrupt: Interrupt
    ) -> None:
        self.watched = Watched(plan.storage.parent(), plan.spec.name)
        self._study = plan.storage
        self._job = job
        self._carrier = job.carrier(plan.storage)
        self._view, self._say, self._ask = view, say, ask
        self._interrupt = interrupt
        self._state = State("queued")
        self._asked = 0.0
        self._said = ""
        self._driver: str | None = None

    def run(self) -> Ending:
        """Look until the job is over, or is left alone."""
        try:
            while True:
                seen = self.watched.look()
                self._show(seen)
                if self._interrupt.signal is not None and (left := self._interrupted()):
                    return left
                if self._state.over:
                    return self._ended(self.watched.look(fresh=True).snapshot)
                time.sleep(LOOK_EVERY)
        except KeyboardInterrupt:
            return self._left()
        except RobustsearchError:
            self._say(self._left().message)
            raise

    def _show(self, seen: Seen) -> None:
        driver = seen.snapshot.driver if seen.snapshot else None
        if driver != self._driver or time.monotonic() - self._asked >= STATE_EVERY:
            self._driver = driver
            self._look_at_job()
        if seen.snapshot is not None and driver is not None:
            self._view(seen.snapshot)

    def _look_at_job(self) -> None:
        """Ask the cluster for the job's state, and say what is new; one that does not answer is asked again."""
        self._asked = time.monotonic()
        try:
            self._state = self._carrier.state(self._job.id)
            said = f"job {self._job.id}: {self._state}"
        except ClusterError as error:
            said = f"job {self._job.id} is not affected, but its state is unknown: {error}"
        if said != self._said:
            self._said = said
            self._say(said)

    def _interrupted(self) -> Ending | None:
        """Leave the job alone, or stop it and follow it on: then None."""
        if self._ask is None or self._ask() == "detach":
            return self._left()
        self._say(str(jobs.stop(self._study, self.watched.name)["message"]))
        self._interrupt.signal = None
        self._ask = None  # Whoever interrupts again wants to leave.
        return None

    def _left(self) -> Ending:
        status, stop = commands(self._study)
        message = (
            f"job {self._job.id} ({self._job.kind}) goes on: `{status}` shows it, `{stop}` ends it, and the same "
            "launch follows it again"
        )
        return Ending(interrupted_code(self._interrupt.signal), message)

    def _ended(self, now: Snapshot | None) -> Ending:
        """Return how the job's launch ended: by its exit code, else by the records."""
        if driver_lock.driver(self._study) is None:
            self._carrier.ended(self._job.id)
        code = exit_code(self._state, now, stopped=driver_lock.stop_requested(self._study))
        if now is None:
            for line in [*self._carrier.log(self._job.id)][-LOG_LINES:]:
                self._say(f"  {line}")
            return Ending(code, f"job {self._job.id} {self._state}, before there was a study")
        counts = ", ".join(f"{count} {state}" for state, count in now.counts.items())
        found = f"{progress.lines(now)['points']}, hypervolume {now.hypervolume:.4f}"
        return Ending(code, f"job {self._job.id} {self._state}: of {now.target} trials {counts}; {found}")


def exit_code(state: State, now: Snapshot | None, *, stopped: bool = False) -> ExitCode:
    """Return the exit code of a launch whose job is over; where the cluster does not know it, the records tell.

    `stopped` is whether the launch was asked to stop, and has not begun again since. A code that no launch
    has is that of a script or a node: the cluster's.
    """
    if state.code is not None:
        return ExitCode(state.code) if state.code in tuple(ExitCode) else ExitCode.CLUSTER
    if now is None or now.to_come or now.waiting or now.running:
        return ExitCode.INTERRUPTED if stopped else ExitCode.CLUSTER
    if now.failed and not now.complete:
        return ExitCode.TRIALS_FAILED
    return ExitCode.DONE if now.front else ExitCode.NO_FEASIBLE_POINT
