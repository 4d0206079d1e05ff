"""How a launch ended: the command's exit code, and the line that says it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from search.files.messages import counted
from search.results.progress import front_text
from search.results.study import Ending
from search.store import catalogue, confirmations, driver_lock
from trainables.core.errors import ExitCode, RobustsearchError
from trainables.store import paths
from trainables.store.storage import Storage

if TYPE_CHECKING:
    from search.launch.driver import Driver


class NotStarted(RobustsearchError):
    """A launch was stopped before there was a study; `ending` says how."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending
        self.exit_code = ending.exit_code


def resumes(storage: Storage) -> str:
    """Return how an interrupted launch continues."""
    folder, _, name = storage.location.rstrip("/").rpartition("/")
    if folder.endswith(f"/{paths.CONFIRM}") and name.startswith(confirmations.SEED):
        return f"`robustsearch confirm` with the same options resumes it in {storage.location}"
    return f"`robustsearch launch` with the same study resumes it in {storage.location}"


def interrupted_code(signal_number: int | None) -> ExitCode:
    """Return the exit code of a launch that a signal or `robustsearch stop` ended."""
    return ExitCode.of_signal(signal_number) if signal_number else ExitCode.INTERRUPTED


def interrupted(storage: Storage, signal_number: int | None, *, cluster_died: bool) -> Ending:
    """Return the ending of a launch that could not wait for its trials."""
    if cluster_died and signal_number is None:
        return Ending(ExitCode.CLUSTER, f"the Ray cluster has died; {resumes(storage)}")
    return Ending(interrupted_code(signal_number), f"interrupted; {resumes(storage)}")


def ending(driver: Driver, signal_number: int | None) -> Ending:
    """Return the ending of a launch whose runner returned."""
    storage = driver.records.storage
    snapshot = driver.snapshot()
    early = f", {snapshot.stopped} stopped early" if snapshot.stopped else ""
    damaged = f", {snapshot.damaged} damaged" if snapshot.damaged else ""
    state = f"{snapshot.complete} of {snapshot.target} trials complete{early}, {snapshot.failed} failed{damaged}"
    if signal_number is not None or driver_lock.stop_requested(storage):
        return Ending(interrupted_code(signal_number), f"stopped: {state}; {resumes(storage)}")
    reason = driver.stop_reason()
    ended = f"{reason}: " if reason else ""
    failed = failures(driver) + (damages(storage) if snapshot.damaged else "")
    if snapshot.failed and not snapshot.complete:
        alike = f"; {reason}" if reason else ""
        return Ending(ExitCode.TRIALS_FAILED, f"too many trials failed: {state}{alike}{failed}")
    if not snapshot.front:
        nearest = f"`robustsearch front {catalogue.arguments(storage)}` lists the nearest"
        return Ending(ExitCode.NO_FEASIBLE_POINT, f"{ended}no feasible point: {state}; {nearest}{failed}")
    points = f"{counted(snapshot.points, 'point')}, {front_text(snapshot)}"
    measured = f"hypervolume {snapshot.hypervolume:.4f}, {snapshot.elapsed:.0f} s"
    return Ending(ExitCode.DONE, f"{ended}{state}; {points}, {measured}{failed}")


def damages(storage: Storage) -> str:
    """Return how trials with damaged records run again."""
    return f"; `robustsearch repair {catalogue.arguments(storage)}` lets damaged trials run again"


def failures(driver: Driver) -> str:
    """Return the failed trials by class, the first one's reason, and where to see the others; empty without any."""
    found = [(outcome.number, outcome.failure) for outcome in driver.failures() if outcome.failure]
    if not found:
        return ""
    counts = Counter(failure.kind for _, failure in found)
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    number, first = found[0]
    reason = next((line.strip() for line in first.message.splitlines() if line.strip()), "it left no message")
    more = f"see `robustsearch status {catalogue.arguments(driver.records.storage)}`"
    return f"; failed: {listed}; trial {number} ({first.kind}): {reason[:300]}; {more}"
