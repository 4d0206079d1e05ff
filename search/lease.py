"""One driver per study: the lease `driver.json`, and the request to stop.

A lease belongs to a living process. On the same machine a driver that is gone is recognised by
its process and its lease taken over at once; one on another machine by a heartbeat that stopped.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from trainables import paths
from trainables.errors import RobustsearchError, StorageError
from trainables.storage import Storage

STALE_AFTER = 60.0
"""Seconds without a heartbeat after which another machine's lease may be taken."""
BEAT_EVERY = 15.0


class StudyBusy(RobustsearchError):
    """Another driver is at work on the study."""

    exit_code = 5


@dataclass(frozen=True)
class Holder:
    """Who drives a study. `machine` tells apart hosts and containers that share a name.

    Units: `process_started` seconds since boot, which no change of the clock moves; `started` and
    `heartbeat` Unix time.
    """

    host: str
    pid: int
    machine: str
    process_started: float
    started: float
    heartbeat: float
    token: str

    def alive(self, now: float) -> bool:
        """Say whether this driver may still be at work."""
        if (self.host, self.machine) == (socket.gethostname(), _machine()):
            return _runs(self.pid, self.process_started)
        # A heartbeat from the future says that the clocks differ, not that the driver is gone.
        return now - self.heartbeat < STALE_AFTER

    def __str__(self) -> str:
        began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.started))
        return f"process {self.pid} on {self.host}, started {began}"


def _since_boot(process: psutil.Process) -> float:
    """Return when a process began, in seconds since boot."""
    return float(process.create_time()) - float(psutil.boot_time())


def _runs(pid: int, started: float) -> bool:
    """Say whether the process is alive, and not a later one with the same number."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(_since_boot(process) - started) < 1.0
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False


def _machine() -> str:
    """Name this boot and process namespace, where the system tells."""
    parts = []
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def holder(storage: Storage) -> Holder | None:
    """Return who holds the lease, living or not; None where nobody does.

    A damaged lease has no holder: it is complete or absent when we write it.
    """
    try:
        found = json.loads(storage.read(paths.DRIVER))
        types = {"host": str, "machine": str, "token": str, "pid": int}
        who = Holder(**{f.name: types.get(f.name, float)(found[f.name]) for f in fields(Holder)})
        if not 0 <= who.started < 1e11:
            raise ValueError("no Unix time")
        return who
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def driver(storage: Storage) -> Holder | None:
    """Return the driver at work on the study, None where there is none."""
    found = holder(storage)
    return found if found is not None and found.alive(time.time()) else None


class Lease:
    """The right to drive a study, held while the object is entered or until `release`.

    A thread renews the heartbeat; `check` says when the lease was lost.
    """

    def __init__(self, storage: Storage, mine: Holder, message: str | None) -> None:
        self.storage = storage
        self.message = message
        """Who held a lease that was taken over, for the log; None where there was none."""
        self._mine = mine
        self._lost: RobustsearchError | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="lease", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def check(self) -> None:
        """Refuse to go on without the lease.

        Raises:
            StudyBusy: another driver has taken the lease over.
            StorageError: the study's directory has gone.
        """
        if self._lost is not None:
            raise self._lost

    def beat(self) -> None:
        """Renew the heartbeat, unless somebody else holds the lease by now."""
        found = holder(self.storage)
        if found is not None and found.token != self._mine.token:
            self._lost = StudyBusy(f"the study in {self.storage.location} was taken over by {found}")
            return
        if found is None and not self.storage.exists(""):
            self._lost = StorageError(f"the directory {self.storage.location} has gone")
            return
        self.storage.write(paths.DRIVER, _content(self._mine, heartbeat=time.time()))

    def release(self) -> None:
        """Give the lease back; twice is no error."""
        if self._done.is_set():
            return
        self._done.set()
        self._thread.join()
        found = holder(self.storage)
        if found is None or found.token == self._mine.token:
            self.storage.delete(paths.DRIVER)

    def _beat_on(self) -> None:
        while not self._done.wait(BEAT_EVERY) and self._lost is None:
            # A storage that refuses now may accept the next beat; records show it to the driver.
            with suppress(StorageError):
                self.beat()


def _content(who: Holder, **changes: float) -> bytes:
    return (json.dumps({**asdict(who), **changes}, indent=1) + "\n").encode()


def acquire(storage: Storage) -> Lease:
    """Become the one driver of the study in `storage`; a stop that was asked of the last one is void.

    Raises:
        StudyBusy: another driver is at work; the message names its host and process.
        StorageError: the storage cannot be written.
    """
    now = time.time()
    mine = Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        machine=_machine(),
        process_started=_since_boot(psutil.Process()),
        started=now,
        heartbeat=now,
        token=uuid.uuid4().hex,
    )
    message = None
    # A lease that goes away between the claim and the look was released: claim once more.
    if not storage.claim(paths.DRIVER, _content(mine)) and (
        storage.exists(paths.DRIVER) or not storage.claim(paths.DRIVER, _content(mine))
    ):
        message = _take_over(storage, mine)
    storage.delete(paths.STOP)
    return Lease(storage, mine, message)


def _take_over(storage: Storage, mine: Holder) -> str:
    """Replace a lease whose driver is gone; of several who try at once, one succeeds."""
    old = holder(storage)
    if old is not None and old.alive(time.time()):
        raise StudyBusy(_busy(storage, old))
    # Who claims this file may replace the old lease, once, if it is still the same.
    permit = f"{paths.DRIVER}.{old.token[:64] if old and old.token.isalnum() else 'damaged'}.taken"
    if not storage.claim(permit, b""):
        with suppress(FileNotFoundError):
            if storage.age(permit, time.time()) > STALE_AFTER:
                storage.delete(permit)
        raise StudyBusy(f"another launch is taking over the study in {storage.location}; try again in a minute")
    try:
        current = holder(storage)
        if current is not None and (old is None or current.token != old.token):
            raise StudyBusy(_busy(storage, current))
        storage.write(paths.DRIVER, _content(mine))
    finally:
        storage.delete(permit)
    if old is None:
        return "took over a lease that could not be read"
    return f"took over the study from {old}, which is gone"


def _busy(storage: Storage, who: Holder) -> str:
    return (
        f"the study in {storage.location} is driven by {who}; "
        f"stop that launch first (if it is gone for good, delete {storage.location}/{paths.DRIVER})"
    )


def request_stop(storage: Storage) -> None:
    """Ask the driver to stop at the next opportunity; the study stays resumable."""
    storage.write(paths.STOP, (json.dumps({"host": socket.gethostname(), "pid": os.getpid()}) + "\n").encode())


def stop_requested(storage: Storage) -> bool:
    """Say whether somebody asked the driver to stop."""
    return storage.exists(paths.STOP)
