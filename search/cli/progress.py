"""What a person sees while a launch runs: a live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.launch.view import PlainView, duration

if TYPE_CHECKING:
    from search.launch.tally import Snapshot


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


def view(plain: bool = False) -> PlainView | LiveView:
    """Return the view for standard error: a panel in a terminal, else, or if `plain`, lines."""
    console = Console(stderr=True)
    capable = console.is_terminal and not console.is_dumb_terminal and not os.environ.get("NO_COLOR")
    return LiveView(console) if capable and not plain else PlainView(sys.stderr)
