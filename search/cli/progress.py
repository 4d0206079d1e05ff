"""What a person sees while a launch runs: a live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from search.launch.driver import Snapshot


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

    def __exit__(self, *exc: object) -> None:
        pass

    def __call__(self, snapshot: Snapshot) -> None:
        """Print the snapshot where it says something new."""
        last = self._shown
        if last and last[0] == snapshot.finished and snapshot.elapsed - last[1] < self._every:
            return
        self._shown = (snapshot.finished, snapshot.elapsed)
        print(line(snapshot), file=self._stream, flush=True)


class LiveView:
    """A panel that stays in place: progress, counts, and the best points so far."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def __call__(self, snapshot: Snapshot) -> None:
        """Show the snapshot."""
        self._live.update(render(snapshot))


def render(snapshot: Snapshot) -> Group:
    """Draw a snapshot for a terminal."""
    counts = Table.grid(padding=(0, 3))
    early = {"stopped": snapshot.stopped} if snapshot.stopped else {}
    states = {"complete": snapshot.complete, **early, "running": snapshot.running, "failed": snapshot.failed}
    states["waiting"] = max(0, snapshot.target - snapshot.finished - snapshot.running)
    counts.add_row(*(f"{count} {state}" for state, count in states.items()))
    facts = Table.grid(padding=(0, 2))
    facts.add_row("points", f"{snapshot.points} measured, {snapshot.front} on the front")
    facts.add_row("hypervolume", f"{snapshot.hypervolume:.4f}")
    if snapshot.best:
        best = snapshot.best
        facts.add_row(
            "most robust",
            f"{best.robust_accuracy:.1%} robust, {best.clean_accuracy:.1%} clean at {best.sparsity:.1%} sparsity",
        )
    left = f", about {duration(snapshot.remaining)} left" if snapshot.remaining else ""
    facts.add_row("time", f"{duration(snapshot.elapsed)}{left}")
    # A bar by itself ends no line.
    bar = Table.grid()
    bar.add_row(ProgressBar(total=max(1, snapshot.target), completed=snapshot.finished, width=60))
    return Group(Text(snapshot.study, style="bold"), bar, counts, facts)


def view(quiet: bool = False) -> PlainView | LiveView:
    """Return the view that fits standard error: live in a terminal; else, or if `quiet`, plain lines."""
    console = Console(stderr=True)
    live = console.is_terminal and not console.is_dumb_terminal and not os.environ.get("NO_COLOR")
    return LiveView(console) if live and not quiet else PlainView(sys.stderr)
