"""The order in which issued trials run: a stage that several need is trained once, by one of them, before the others.

The sampler chooses a trial's parameters; only the order is decided here. It needs no clock and no storage: the driver
reports what starts, what is stored and what ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set

from trainables.method.phases import EpochPhase
from trainables.recipes.trial import KeyedPhase
from trainables.store.records import TrialRecord


def trainings(chain: Iterable[KeyedPhase]) -> tuple[str, ...]:
    """Return the keys of a trial's trainings, in order: the phases that are worth sharing."""
    return tuple(step.key for step in chain if isinstance(step.phase, EpochPhase))


class Order:
    """The trials that were issued and have not started, and which of them is next."""

    def __init__(self) -> None:
        """Start with nothing stored and nothing running."""
        self._waiting: dict[int, TrialRecord] = {}
        self._trainings: dict[int, tuple[str, ...]] = {}
        self._running: set[int] = set()
        self._stored: set[str] = set()

    def __len__(self) -> int:
        """Count the trials that wait to start."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the numbers of the trials that wait."""
        return iter(self._waiting)

    def add(self, record: TrialRecord, needs: Sequence[str]) -> None:
        """Queue an issued trial whose trainings have these keys."""
        self._waiting[record.number] = record
        self._trainings[record.number] = tuple(needs)

    def take(self) -> TrialRecord | None:
        """Start the trial whose next training most others wait for; None where all would wait for a running trial."""
        in_progress = {key for number in self._running for key in self._trainings[number]} - self._stored
        next_training = {number: self._next(number) for number in self._waiting}
        wanted = Counter(next_training.values())
        ready = [number for number, key in next_training.items() if key not in in_progress]
        if not ready:
            return None
        number = min(ready, key=lambda n: (-wanted[next_training[n]] if next_training[n] else 0, n))
        self._running.add(number)
        return self._waiting.pop(number)

    @property
    def stored(self) -> Set[str]:
        """The keys that are known to be stored."""
        return self._stored

    def store(self, keys: Iterable[str]) -> None:
        """Note keys that are stored."""
        self._stored.update(keys)

    def drop(self, keys: Iterable[str]) -> None:
        """Note keys that are no longer stored."""
        self._stored.difference_update(keys)

    def again(self, record: TrialRecord) -> None:
        """Queue a running trial again."""
        self._running.discard(record.number)
        self._waiting[record.number] = record

    def end(self, number: int) -> None:
        """Note that a trial no longer runs; any trial may train what it has not stored."""
        self._running.discard(number)
        self._trainings.pop(number, None)

    def _next(self, number: int) -> str | None:
        return next((key for key in self._trainings[number] if key not in self._stored), None)
