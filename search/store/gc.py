"""Garbage collection of stored stages: those that nobody needs are dropped, the least useful first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from search.files.fields import size_text
from search.files.messages import counted
from search.store.records import Records
from trainables.store.stages import Stages


@dataclass(frozen=True)
class Swept:
    """What a sweep dropped and what it left; `links` are stages behind links. Units: `freed` and `size` in bytes."""

    dropped: tuple[str, ...]
    freed: int
    kept: int
    size: int
    links: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return the sweep as JSON-able data."""
        return asdict(self)

    def says(self, verb: str) -> str:
        """Return a sentence about what was dropped, or would be, as `verb` says."""
        went, stays = size_text(self.freed), size_text(self.size)
        number = len(self.links)
        links = f"; {number} {'is' if number == 1 else 'are'} reached through links, which are not followed"
        return (
            f"{verb} {counted(len(self.dropped), 'stage')}, {went}; {self.kept} stay, {stays}{links if number else ''}"
        )


class StageCollector:
    """The stored stages of one study and their sizes; a size is looked up once, unless the stage may still grow."""

    def __init__(self, records: Records, needed: Callable[[], set[str]]) -> None:
        """Look at a study's stages; `needed` returns the keys of those that are kept whatever their size."""
        self._records = records
        self._needed = needed
        self._stages = Stages(records.storage)
        self._sizes: dict[str, int] = {}
        self._points: set[str] = set()
        self._links: set[str] = set()

    def sweep(self, limit: int = 0, *, dry: bool = False) -> Swept:
        """Drop stages until the rest takes no more than `limit` bytes, or all that is left is needed.

        A stage is useful that many trials share, that took many epochs, and that is small. With `dry` nothing is
        dropped, and the result says what would be. Measured points stay: they are small. So do links and what they
        lead to: it is not this study's.
        """
        resumed = self._records.unfinished_keys()
        self._look(resumed)
        size = sum(self._sizes.values())
        dropped: list[str] = []
        if size > limit:
            needed = resumed | self._needed()
            for key in self._least_useful_first(self._sizes.keys() - needed):
                if size <= limit:
                    break
                dropped.append(key)
                size -= self._sizes[key]
        freed = sum(self._sizes[key] for key in dropped)
        links = tuple(sorted(self._links))
        if not dry:
            for key in dropped:
                self._stages.drop(key)
                del self._sizes[key]
        return Swept(tuple(dropped), freed, len(self._sizes) - (len(dropped) if dry else 0), size, links)

    def _look(self, growing: set[str]) -> None:
        found = set(self._stages.keys())
        self._links = {key for key in found - self._points if self._stages.linked(key)}
        stored = found - self._points - self._links
        self._sizes = {key: size for key, size in self._sizes.items() if key in stored and key not in growing}
        for key in stored - self._sizes.keys():
            if self._stages.has_point(key):
                self._points.add(key)
            else:
                self._sizes[key] = self._stages.size(key)

    def _least_useful_first(self, keys: Iterable[str]) -> list[str]:
        used: Counter[str] = Counter()
        first: dict[str, int] = {}
        for trial, _ in self._records.trials():
            used.update(trial.keys)
            for key in trial.keys:
                first.setdefault(key, trial.number)

        def usefulness(key: str) -> tuple[float, int]:
            stage = self._stages.find(key)
            epochs = stage.epochs if stage else 0
            return used[key] * epochs / max(1, self._sizes[key]), first.get(key, -1)

        return sorted(keys, key=usefulness)
