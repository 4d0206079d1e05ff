"""How far a launch is, as a line of text, for terminals, logs and notebooks."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from search.launch.tally import Snapshot

VIEW_SECONDS = 1.0
"""The shortest time between two snapshots that a runner hands to a view."""


def duration(seconds: float) -> str:
    """Write a duration with its two largest units."""
    whole = int(seconds + 0.5)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {name}"
    return f"{whole} s"


def line(snapshot: Snapshot) -> str:
    """Write a snapshot as one line."""
    best = f", best robust accuracy {snapshot.best.robust_accuracy:.3f}" if snapshot.best else ""
    left = f", {duration(snapshot.remaining)} left" if snapshot.remaining else ""
    stopped = f", {snapshot.stopped} stopped early" if snapshot.stopped else ""
    failed = f", {snapshot.failed} failed" if snapshot.failed else ""
    return (
        f"{snapshot.complete}/{snapshot.target} trials complete{stopped}{failed}, {snapshot.running} running; "
        f"{snapshot.points} point{'' if snapshot.points == 1 else 's'}, {snapshot.front} on the front, "
        f"hypervolume {snapshot.hypervolume:.4f}{best}; {duration(snapshot.elapsed)}{left}"
    )


class PlainView:
    """A line whenever a trial has ended, and at least every `every` seconds."""

    def __init__(self, stream: TextIO, every: float = 30.0) -> None:
        self._stream = stream
        self._every = every
        self._shown: tuple[int, float] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __call__(self, snapshot: Snapshot) -> None:
        """Print the snapshot where it says something new."""
        last = self._shown
        if last and last[0] == snapshot.finished and snapshot.elapsed - last[1] < self._every:
            return
        self._shown = (snapshot.finished, snapshot.elapsed)
        print(line(snapshot), file=self._stream, flush=True)
