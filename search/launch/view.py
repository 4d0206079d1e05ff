"""How far a launch is, as a line of text, for terminals, logs and notebooks."""

from __future__ import annotations

from types import TracebackType
from typing import Self, TextIO

from search.results.progress import Snapshot, trial_line
from search.results.progress import duration as duration
from search.results.progress import line as line

MOST_TRIALS = 8
"""How many running trials a log lists each time."""
VIEW_SECONDS = 1.0
"""The shortest time between two snapshots that a runner hands to a view."""


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
        print(line(snapshot), *_trials(snapshot), sep="\n  ", file=self._stream, flush=True)


def _trials(snapshot: Snapshot) -> list[str]:
    said = [trial_line(trial) for trial in snapshot.trials[:MOST_TRIALS]]
    more = len(snapshot.trials) - len(said)
    return [*said, f"and {more} more"] if more > 0 else said
