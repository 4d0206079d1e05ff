"""What a running launch knows of its trials, for other processes: `live.json`, beside the records and no part of them.

The driver writes it while it runs and deletes it at the end. It counts as long as the process that wrote it holds the
study's lease. Nobody needs it: without it the records say all that is true.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Self

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from trainables.core.errors import StorageError
from trainables.store import lease, paths
from trainables.store.lease import BEAT_EVERY, STALE_AFTER, Holder
from trainables.store.storage import Storage

WRITE_EVERY = 1.0
"""The shortest time between two writes to a file system; an object store is written as often as a lease there."""

_FINITE = ConfigDict(allow_inf_nan=False, extra="ignore")


@checked_dataclass(frozen=True, config=_FINITE)
class RunningTrial:
    """A trial that runs.

    `phase` is the kind of what it does (`train`, `prune`, `measure`, ...), `starting` before its worker has said
    anything, and `epoch` of `epochs` are completed in it, None where it has none. `loss` is the training loss of the
    last epoch. `points` are measured so far. `waits_for` is the process that computes the stage which it needs.
    `done` is the share of its epochs that is done, in [0, 1]; so far it trained `epochs_trained` itself, and took
    `epochs_shared` from stored stages. `robust_accuracy` is that of its last measurement, which may be a partial one.

    Units: `seconds` since it started, `silent` seconds since its worker said something.
    """

    number: int
    phase: str
    epoch: int | None
    epochs: int | None
    loss: float | None
    seconds: float
    silent: float
    host: str
    points: int
    done: float
    waits_for: str | None = None
    epochs_trained: int = 0
    epochs_shared: int = 0
    robust_accuracy: float | None = None


@dataclass(frozen=True)
class Running:
    """What changes during a launch: the trials that run, and the seconds that it still needs, None where unknown."""

    trials: tuple[RunningTrial, ...]
    remaining: float | None = None


@checked_dataclass(frozen=True, config=_FINITE)
class Live:
    """The state of a launch at the Unix time `written`.

    `token` is that of the lease of its driver. It `began` at that Unix time, when `ended_before` trials had ended, and
    needed `remaining` more seconds when it was written, None where that is unknown.
    """

    token: str
    began: float
    ended_before: int
    trials: tuple[RunningTrial, ...]
    written: float
    remaining: float | None = None

    def at(self, now: float) -> Live:
        """Return the state with the times of its trials moved on to the Unix time `now`."""
        passed = max(0.0, now - self.written)
        moved = (replace(t, seconds=t.seconds + passed, silent=t.silent + passed) for t in self.trials)
        remaining = None if self.remaining is None else max(0.0, self.remaining - passed)
        return replace(self, trials=tuple(moved), remaining=remaining)


_LIVE = TypeAdapter(Live)


@dataclass(frozen=True)
class DriverState:
    """The process that drives a study and what it knows, None where there is none, or it has written nothing.

    `dead` is a driver that ended without leaving the study: it was killed.
    """

    driver: Holder | None
    live: Live | None
    dead: Holder | None = None


def driver_state(storage: Storage) -> DriverState:
    """Return who drives a study, and what that process knows as of now.

    Raises:
        StorageError: the storage refuses.
    """
    now, holder = time.time(), lease.holder(storage, paths.DRIVER)
    if holder is None:
        return DriverState(None, None)
    return DriverState(holder, _read(storage, holder, now)) if holder.alive(now) else DriverState(None, None, holder)


def _read(storage: Storage, driver: Holder, now: float) -> Live | None:
    try:
        found = _LIVE.validate_json(storage.read(paths.LIVE))
    except (FileNotFoundError, ValidationError):
        return None
    # A time in the future means that the clocks differ, as it does for leases.
    return found.at(now) if found.token == driver.token and now - found.written < STALE_AFTER else None


@dataclass(frozen=True)
class Header:
    """What does not change during a launch; see `Live`."""

    token: str
    began: float
    ended_before: int


class Writer:
    """Write the state of a launch from a thread of its own, while the object is entered; delete it at the end."""

    def __init__(self, storage: Storage, header: Header, running: Callable[[], Running]) -> None:
        """Write nothing yet; `running` is called from the thread."""
        self._storage = storage
        self._header = header
        self._running = running
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="live", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        with suppress(StorageError):  # Without its driver it is ignored.
            self._storage.delete(paths.LIVE)

    def write(self) -> None:
        """Write the state as it is now.

        Raises:
            StorageError: the storage refuses.
        """
        now = self._running()
        live = Live(**asdict(self._header), trials=now.trials, written=time.time(), remaining=now.remaining)
        self._storage.write(paths.LIVE, json.dumps(asdict(live), indent=1).encode(), durable=False)

    def _write_on(self) -> None:
        pause = WRITE_EVERY if self._storage.local is not None else BEAT_EVERY
        while True:
            with suppress(StorageError):  # It may accept the next one; the work itself will meet the error.
                self.write()
            if self._over.wait(pause):
                return
