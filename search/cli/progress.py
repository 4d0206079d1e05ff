"""What a person sees of a search that runs: a live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.files.messages import printable
from search.launch.view import PlainView
from search.results.progress import activity, duration, lines

if TYPE_CHECKING:
    from search.results.progress import Snapshot
    from search.results.watching import Seen
    from search.store.live import RunningTrial

_WIDEST_PLOT = 90
_TALLEST_PLOT = 20
_LEAST_PLOT = 7
_MOST_TRIALS = 12
_NARROW = 60
_COLUMNS = ("trial", "phase", "loss", "done", "points", "time", "host")
_WIDE = ("done", "points", "host")
"""The columns that a narrow terminal has no room for."""


class _Drawing:
    """What is drawn anew in its place while the object is entered."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)


class LiveView(_Drawing):
    """A panel that stays in place: progress, counts, the trials that run, and the front."""

    def __init__(self, console: Console) -> None:
        super().__init__(Live(console=console, refresh_per_second=4, transient=True))

    def __call__(self, snapshot: Snapshot) -> None:
        """Show the snapshot."""
        self._live.update(Panel(snapshot))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Draw nothing for the length of a `with` block, such as while something is asked."""
        self._live.stop()
        try:
            yield
        finally:
            self._live.start(refresh=True)


class Screen(_Drawing):
    """A whole terminal that shows a study, and gives back what it showed before."""

    def __init__(self, console: Console) -> None:
        super().__init__(Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop"))

    def show(self, seen: Seen) -> None:
        """Show what is to be seen."""
        notes = [seen.note] if seen.note else []
        drawn: RenderableType = Text(printable(seen.note))
        if seen.snapshot is not None:
            drawn = Panel(seen.snapshot, *notes, "", "Ctrl-C ends this view, not the search.")
        self._live.update(drawn, refresh=True)


class Panel:
    """A snapshot, drawn for the terminal as large as it is when it is drawn."""

    def __init__(self, snapshot: Snapshot, *notes: str) -> None:
        """Draw a snapshot and, below it, lines that say more."""
        self._snapshot = snapshot
        self._notes = notes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.size.height
        yield _drawn(self._snapshot, self._notes, options.max_width, height - 1, ascii_only(options.encoding))


def ascii_only(encoding: str) -> bool:
    """Return whether a terminal of this encoding draws no more than ASCII."""
    return not encoding.lower().startswith("utf") or os.environ.get("TERM") in ("linux", "dumb")


def render(snapshot: Snapshot) -> Group:
    """Draw the facts of a snapshot for a terminal, without the trials that run and the front."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for name, fact in list(lines(snapshot).items())[1:]:  # The first are the counts, which stand above.
        facts.add_row(name, printable(fact))
    counts = "   ".join(f"{count} {state}" for state, count in snapshot.counts.items())
    # A bar by itself ends no line.
    bar = Table.grid()
    bar.add_row(ProgressBar(total=max(1, snapshot.target), completed=snapshot.finished, width=60))
    return Group(Text(printable(snapshot.study), style="bold"), bar, Text(counts), facts)


def _drawn(now: Snapshot, notes: tuple[str, ...], width: int, height: int, plain: bool) -> Group:
    """Draw a snapshot into a terminal of this size: what does not fit is left out, the plot first."""
    from search.results.text_plot import front_plot

    parts: list[RenderableType] = [render(now)]
    widest = max(20, width - 14)
    used = 3 + sum(-(-len(fact) // widest) for fact in list(lines(now).values())[1:]) + len(notes)
    if now.trials:
        room = max(1, min(_MOST_TRIALS, height - used - 2))
        parts += [Text(""), running_table(now.trials[:room], narrow=width < _NARROW)]
        used += 2 + min(room, len(now.trials))
        if (more := len(now.trials) - room) > 0:
            parts.append(Text(f"and {more} more", style="dim"))
            used += 1
    room = min(_TALLEST_PLOT, height - used - 1)
    if room >= _LEAST_PLOT:
        size = {"width": min(width - 1, _WIDEST_PLOT), "height": room}
        if drawn := front_plot(now.front_points, now.objectives, **size, ascii=plain):
            parts += [Text(""), *(Text(row, no_wrap=True, overflow="crop") for row in drawn)]
    return Group(*parts, *(Text(printable(note)) for note in notes))


def running_table(trials: tuple[RunningTrial, ...], *, narrow: bool = False) -> Table:
    """Draw the trials that run, a line each."""
    table = Table.grid(padding=(0, 2, 0, 0))
    names = tuple(name for name in _COLUMNS if not narrow or name not in _WIDE)
    for name in names:
        table.add_column(no_wrap=True, overflow="ellipsis", justify="left" if name in ("phase", "host") else "right")
    table.add_row(*(Text(name, style="dim") for name in names))
    for trial in trials:
        cells = running_cells(trial)
        table.add_row(*(Text(printable(cells[name])) for name in names))
    return table


def running_cells(trial: RunningTrial) -> dict[str, str]:
    """Return what is shown of a running trial, by column."""
    return {
        "trial": str(trial.number),
        "phase": activity(trial),
        "loss": "" if trial.loss is None else f"{trial.loss:.4g}",
        "done": f"{100 * trial.done:.0f} %",
        "points": str(trial.points),
        "time": duration(trial.seconds),
        "host": trial.host,
    }


def live_console(stream: TextIO) -> Console | None:
    """Return the console of a stream where it can show a view that stays in place, else None."""
    console = Console(file=stream, highlight=False, emoji=False)
    capable = console.is_terminal and not console.is_dumb_terminal and not os.environ.get("NO_COLOR")
    return console if capable else None


def view(plain: bool = False) -> PlainView | LiveView:
    """Return the view for standard error: a panel in a terminal, else, or if `plain`, lines."""
    console = live_console(sys.stderr)
    return LiveView(console) if console is not None and not plain else PlainView(sys.stderr)
