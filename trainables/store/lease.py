"""Leases: files that name the living process that works on something; they outlive it by seconds only.

A dead holder on the same machine is recognised by its process, and its lease is replaced at once; one on another
machine by a heartbeat that stopped. On an object store each change names the version that it replaces, so that of
several processes one succeeds; on a file system, whoever replaces a lease first claims a file that permits it.
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
from typing import TYPE_CHECKING, Self

from trainables.core.errors import ExitCode, RobustsearchError, StorageError
from trainables.store.storage import Storage

if TYPE_CHECKING:
    from trainables.store.object_store import Version

STALE_AFTER = 60.0
"""Seconds without a heartbeat after which another machine's lease may be replaced."""
BEAT_EVERY = 15.0
LOOK_EVERY = 5.0
"""Seconds between two looks at an object store for the request that a lease's holder waits for."""


class LeaseHeld(RobustsearchError):
    """Another process holds the lease: `by`, None while yet another one is replacing it."""

    exit_code = ExitCode.STORAGE

    def __init__(self, message: str, by: Holder | None) -> None:
        super().__init__(message)
        self.by = by


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease. `machine` tells apart hosts and containers that share a name.

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

    @classmethod
    def here(cls) -> Holder:
        """Return this process as a holder, from now on."""
        now = time.time()
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            machine=_machine(),
            process_started=_since_boot(os.getpid()) or 0.0,
            started=now,
            heartbeat=now,
            token=uuid.uuid4().hex,
        )

    def alive(self, now: float) -> bool:
        """Return whether this process may still be running."""
        if (self.host, self.machine) == (socket.gethostname(), _machine()):
            return _runs(self.pid, self.process_started)
        # A heartbeat from the future means that the clocks differ, not that the holder is dead.
        return now - self.heartbeat < STALE_AFTER

    def __str__(self) -> str:
        began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.started))
        return f"process {self.pid} on {self.host}, started {began}"


def _since_boot(pid: int) -> float | None:
    """Return when a living process started, in seconds since boot; None for one that is dead, or a zombie."""
    try:
        # The name, in parentheses, may contain anything: the fields follow the last one.
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else int(rest[18]) / os.sysconf("SC_CLK_TCK")


def _runs(pid: int, started: float) -> bool:
    """Return whether the process is alive, and not a later one with the same number."""
    began = _since_boot(pid) if 0 < pid < 2**31 else None
    return began is not None and abs(began - started) < 1.0


def _machine() -> str:
    """Return the identifiers of this boot and process namespace, where the system has them."""
    parts = []
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def holder(storage: Storage, path: str) -> Holder | None:
    """Return the holder of a lease, living or not; None where there is none.

    A damaged lease has no holder: it is complete or absent when it is written here.
    """
    try:
        return _parsed(storage.read(path))
    except FileNotFoundError:
        return None


def _parsed(content: bytes) -> Holder | None:
    try:
        found = json.loads(content)
        types = {"host": str, "machine": str, "token": str, "pid": int}
        who = Holder(**{f.name: types.get(f.name, float)(found[f.name]) for f in fields(Holder)})
        if not 0 <= who.started < 1e11:
            raise ValueError("no Unix time")
        return who
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def living_holder(storage: Storage, path: str) -> Holder | None:
    """Return the living holder of a lease, None where there is none."""
    found = holder(storage, path)
    return found if found is not None and found.alive(time.time()) else None


class Lease:
    """A lease that this process holds while the object is entered, or until `release`.

    A thread renews the heartbeat; `check` raises when the lease was lost. `request` is a file by which others ask the
    holder for something.
    """

    def __init__(
        self, storage: Storage, path: str, mine: Holder, before: str | None, request: str | None = None
    ) -> None:
        self.storage = storage
        self.path = path
        self.before = before
        """The earlier holder, as text, of a lease that was replaced; None where there was none."""
        self._mine = mine
        self._request = request
        self._requested = False
        self._version: Version | None = None
        self._lost: RobustsearchError | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="lease", daemon=True)
        self._thread.start()

    @property
    def token(self) -> str:
        """What tells this lease apart from every other one."""
        return self._mine.token

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def check(self) -> None:
        """Raise if the lease is lost.

        Raises:
            LeaseHeld: another process has replaced it.
            StorageError: the directory around it was deleted.
        """
        if self._lost is not None:
            raise self._lost

    def requested(self) -> bool:
        """Return whether the request is there: at once on a file system, within seconds on an object store."""
        if self.storage.local is not None and self._request is not None:
            return self.storage.exists(self._request)
        return self._requested

    def beat(self) -> None:
        """Renew the heartbeat, unless another process holds the lease by now."""
        content = _content(self._mine, heartbeat=time.time())
        if self.storage.local is None:
            self._beat_object(content)
            return
        found = holder(self.storage, self.path)
        if self._is_mine(found):
            self.storage.write(self.path, content)

    def _beat_object(self, content: bytes) -> None:
        """Replace the version that this process wrote last: one request, until somebody else has changed the lease."""
        if self._version is not None:
            self._version = self.storage.swap(self.path, content, self._version)
        if self._version is not None:
            return
        try:
            found, version = self.storage.read_version(self.path)
        except FileNotFoundError:
            if self._is_mine(None):
                self.storage.claim(self.path, content)
            return
        if self._is_mine(_parsed(found)):
            self._version = self.storage.swap(self.path, content, version)

    def _is_mine(self, found: Holder | None) -> bool:
        """Return whether a lease that was `found` is this one, or absent or damaged; else note how it was lost."""
        if found is not None and found.token != self._mine.token:
            self._lost = LeaseHeld(f"{self.storage.location}/{self.path} was replaced by {found}", found)
        elif found is None and not self.storage.has_directory():
            self._lost = StorageError(f"the directory {self.storage.location} was deleted")
        return self._lost is None

    def release(self) -> None:
        """Release the lease; twice is not an error."""
        if self._done.is_set():
            return
        self._done.set()
        self._thread.join()
        found = holder(self.storage, self.path)
        if found is None or found.token == self._mine.token:
            self.storage.delete(self.path)

    def _beat_on(self) -> None:
        looks = self._request is not None and self.storage.local is None
        pause, beaten = (min(BEAT_EVERY, LOOK_EVERY) if looks else BEAT_EVERY), time.monotonic()
        while not self._done.wait(pause) and self._lost is None:
            # A storage that refuses now may accept the next request; the work itself will meet the error.
            with suppress(StorageError):
                if looks and not self._requested:
                    self._requested = self.storage.exists(str(self._request))
            if time.monotonic() - beaten >= 0.9 * BEAT_EVERY:
                beaten = time.monotonic()
                with suppress(StorageError):
                    self.beat()


def _content(who: Holder, **changes: float) -> bytes:
    return (json.dumps({**asdict(who), **changes}, indent=1) + "\n").encode()


def acquire(storage: Storage, path: str, request: str | None = None) -> Lease:
    """Acquire a lease that no living process holds; `request` is a file for `Lease.requested`.

    Raises:
        LeaseHeld: one does; the message names its host and process.
        StorageError: the storage cannot be written.
    """
    mine = Holder.here()
    before = None
    # A lease that disappears after the failed claim was released: claim again.
    if not storage.claim(path, _content(mine)) and (storage.exists(path) or not storage.claim(path, _content(mine))):
        before = (_swap if storage.local is None else _replace)(storage, path, mine)
    return Lease(storage, path, mine, before, request)


def _swap(storage: Storage, path: str, mine: Holder) -> str:
    """Replace the lease of a dead holder on an object store, and return who that was."""
    try:
        content, version = storage.read_version(path)
    except FileNotFoundError:
        raise _taken_meanwhile(storage, path) from None
    old = _parsed(content)
    if old is not None and old.alive(time.time()):
        raise _held(storage, path, old)
    if storage.swap(path, _content(mine), version) is None:
        if (current := holder(storage, path)) is not None and current.alive(time.time()):
            raise _held(storage, path, current)
        raise _taken_meanwhile(storage, path)
    return "a process whose lease cannot be read" if old is None else str(old)


def _replace(storage: Storage, path: str, mine: Holder) -> str:
    """Replace the lease of a dead holder, and return who that was; of several that try at once, one succeeds."""
    old = holder(storage, path)
    if old is not None and old.alive(time.time()):
        raise _held(storage, path, old)
    # The process that claims this file may replace the old lease, once, if it is still the same.
    permit = f"{path}.{old.token[:64] if old and old.token.isalnum() else 'damaged'}.taken"
    if not storage.claim(permit, b""):
        with suppress(FileNotFoundError):
            if storage.age(permit, time.time()) > STALE_AFTER:
                storage.delete(permit)
        raise _taken_meanwhile(storage, path)
    try:
        current = _parsed(storage.read(path))
        if current is not None and (old is None or current.token != old.token):
            raise _held(storage, path, current)
        storage.write(path, _content(mine))
    except FileNotFoundError:  # It was released.
        if not storage.claim(path, _content(mine)):
            raise _taken_meanwhile(storage, path) from None
    finally:
        storage.delete(permit)
    return "a process whose lease cannot be read" if old is None else str(old)


def _taken_meanwhile(storage: Storage, path: str) -> LeaseHeld:
    return LeaseHeld(f"{storage.location}/{path} is being replaced by another process; try again in a minute", None)


def _held(storage: Storage, path: str, who: Holder) -> LeaseHeld:
    return LeaseHeld(f"{storage.location}/{path} is held by {who}", who)
