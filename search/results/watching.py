"""A study as somebody watches it: before its launch, while that runs, and how it ended."""

from __future__ import annotations

import time
from dataclasses import dataclass

from search.files.messages import counted
from search.results.progress import Snapshot
from search.results.study import Study
from search.store import catalogue, driver_lock
from search.store.records import Records
from search.store.study_yaml import sha256
from trainables.store import paths
from trainables.store.storage import Storage

REMOTE_LOOK_EVERY = 5.0
"""Seconds between two looks at an object store, each of several requests."""


@dataclass(frozen=True)
class Seen:
    """What is to be seen of a study: `snapshot` is None before there is one; `note` says what the numbers do not.

    `over` where no launch runs: nothing changes until the next one.
    """

    snapshot: Snapshot | None
    note: str = ""
    over: bool = False


class Watched:
    """A study by name, which may not exist yet."""

    def __init__(self, root: Storage, name: str) -> None:
        """Watch the study of that name in a storage; it is opened once it is there.

        Raises:
            SpecError: it is not a valid name.
        """
        self.name = catalogue.check_name(name)
        self.storage = root.child(name)
        self.study: Study | None = None
        self._last: tuple[float, Seen] | None = None

    def look(self, *, fresh: bool = False) -> Seen:
        """Return what is to be seen now; on an object store, what was seen seconds ago, unless it is to be `fresh`.

        Raises:
            RobustsearchError: the study cannot be read.
        """
        now = time.monotonic()
        if self.storage.local is None and not fresh and self._last and now - self._last[0] < REMOTE_LOOK_EVERY:
            return self._last[1]
        seen = self._look()
        self._last = time.monotonic(), seen
        return seen

    def _look(self) -> Seen:
        if self.study is None and not Records.exist(self.storage):
            return Seen(None, self._before())
        # A launch may have changed the study, such as its budget, since it was opened.
        if self.study is None or sha256(self.storage.read(paths.STUDY)) != self.study.records.digest:
            self.study = Study(Records.open(self.storage))
        now = self.study.progress()
        return Seen(now, "", over=False) if now.driver else Seen(now, self._ending(now), over=True)

    def _before(self) -> str:
        if (driver := driver_lock.driver(self.storage)) is not None:
            return f"{self.name} is being launched by {driver}"
        return (
            f"{self.name} was not launched yet in {self.storage.parent().location}; waiting for `robustsearch launch`"
        )

    def _ending(self, now: Snapshot) -> str:
        resumes = f"`robustsearch launch` with the same study resumes it in {self.storage.location}"
        if now.killed is not None:
            return f"the launch was killed: {now.killed}, no longer runs; {resumes}"
        if now.to_come or now.waiting:
            left = ", ".join(
                f"{count} {state}" for state, count in now.counts.items() if state in ("waiting", "to come")
            )
            return f"no launch is running ({left}); {resumes}"
        return f"the search is complete: {counted(now.target, 'trial')} ended"
