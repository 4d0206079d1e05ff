"""The private folder of a launch: what Ray and Tune write lies in it, and it is gone when the launch has ended.

Its name is unpredictable, its mode 0700, and a lock in it tells whether its launch still runs: the system releases
the lock of a process that was killed, and the next launch removes the folder.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from search.cluster.base import ClusterError
from trainables.core import ownership

PREFIX = "robustsearch-"
LOCK = "launch.lock"
VARIABLE = "ROBUSTSEARCH_LAUNCH"
"""Names the folder in the environment of the processes that a launch starts: they are known by it."""
SOCKET_BYTES = 107
"""The longest path of a socket. BSD systems allow 103."""
RAY = "r"
"""The folder in it that is Ray's."""
LONGEST_SOCKET = f"/{RAY}/session_2026-01-01_00-00-00_000000_4194304/sockets/dash_MetricsHead"
UNFINISHED_AFTER = 3600.0
"""Seconds after which a folder without a lock counts as left behind: its launch died between two calls."""
END_SECONDS = 5.0
"""How long the end of processes that were killed is waited for."""

_open: dict[Path, int] = {}
"""The folders of this process, each with the descriptor that holds its lock."""


def temporary() -> Path:
    """Return the folder in which launches make theirs: the system's temporary one, or /tmp where its path is long.

    Raises:
        ClusterError: other users could replace what lies in it.
    """
    root = Path(tempfile.gettempdir())
    room = SOCKET_BYTES - len(LONGEST_SOCKET) - len(f"/{PREFIX}12345678")
    if len(os.fsencode(root)) > room:
        root = Path("/tmp")
    if problem := ownership.unsafe_temp(root):
        raise ClusterError(
            f"temporary files are not safe from other users: {problem}; "
            f"let TMPDIR name a folder of yours (at most {room} bytes long), or run `chmod +t` on it"
        )
    return root


@contextmanager
def launch_folder() -> Iterator[Path]:
    """Make a private folder for the length of a `with` block, after removing those of launches that died.

    Raises:
        ClusterError: there is no safe place for it, or it cannot be written.
    """
    root = temporary()
    remove_dead(root)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        _open[folder] = _locked(folder)
    except OSError as error:
        raise ClusterError(f"cannot make a temporary folder in {root}: {error}") from error
    try:
        yield folder
    finally:
        remove(folder)


def remove(folder: Path) -> None:
    """End the processes of a folder of this process, and remove it."""
    descriptor = _open.pop(folder, None)
    end_processes(folder)
    _remove(folder)
    if descriptor is not None:
        os.close(descriptor)


@atexit.register
def remove_all() -> None:
    """Remove all folders of this process; for a process that is about to end without leaving its `with` blocks."""
    for folder in list(_open):
        remove(folder)


def dead(root: Path) -> list[Path]:
    """Return the folders below `root` that launches of this user have left behind."""
    return [folder for folder in root.glob(f"{PREFIX}*") if folder not in _open and _abandoned(folder)]


def remove_dead(root: Path) -> None:
    """Remove what launches of this user that were killed have left below `root`; never what a living one uses."""
    for folder in dead(root):
        end_processes(folder)
        _remove(folder)


def end_processes(folder: Path) -> None:
    """End all processes that were started for a launch, known by their environment, and those that they start now."""
    until = time.monotonic() + END_SECONDS
    while (ending := _processes(folder)) and time.monotonic() < until:
        for process in ending:
            with suppress(Exception):  # It has ended meanwhile.
                process.kill()
        while (ending := [process for process in ending if not _has_ended(process)]) and time.monotonic() < until:
            time.sleep(0.02)


def _has_ended(process: Any) -> bool:
    """Return whether a process has ended; in containers, what was its parent's is often reaped late or never."""
    import psutil

    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


def _processes(folder: Path) -> list[Any]:
    try:
        import psutil  # Ray brings it.
    except ImportError:
        return []
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(VARIABLE) == str(folder):
                found.append(process)
    return found


def _locked(folder: Path) -> int:
    """Make the lock of a new folder and hold it; it appears under its name when it is held."""
    new = folder / f"{LOCK}.new"
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.rename(new, folder / LOCK)
    return descriptor


def _abandoned(folder: Path) -> bool:
    """Return whether a folder is this user's, and of a launch that no longer runs."""
    try:
        found = folder.lstat()
        if folder.is_symlink() or not folder.is_dir() or not ownership.is_mine(found):
            return False
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        # Without a lock it is empty, or no folder of a launch.
        return set(_names(folder)) <= {f"{LOCK}.new"} and time.time() - found.st_mtime > UNFINISHED_AFTER
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return ["unreadable"]


def _remove(folder: Path) -> None:
    """Remove a folder, in which a process that is being ended may still write."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)
