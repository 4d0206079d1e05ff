"""Whether other users of this machine can change a file or a folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

try:
    import grp
    import pwd
except ImportError:  # Windows has neither.
    grp = pwd = None  # type: ignore[assignment]

OVERFLOW_USER = 65534
"""The owner that a user namespace shows for users it does not know, such as the real root."""


def exposed(path: str | os.PathLike[str]) -> str | None:
    """Return what lets other users change the file or folder at `path`, as words; None where nothing does.

    Folders above count too: who may rename in them may put another file there. A path that does not exist yet is
    judged by its nearest folder.
    """
    target = Path(os.path.realpath(path))
    while not os.path.exists(target) and target != target.parent:
        target = target.parent
    return _writable(target) or next(
        (problem for folder in target.parents if (problem := _writable(folder, sticky=True))), None
    )


def open_to_others(path: str | os.PathLike[str]) -> str | None:
    """Return why other users can write to the file or folder at `path`, as words; None where nothing lets them.

    What lies in a folder that others cannot enter is not open to them, whatever its own mode.
    """
    target = Path(os.path.realpath(path))
    return _writable(target) if all(map(_enterable, target.parents)) else None


def _enterable(folder: Path) -> bool:
    """Return whether other users can enter a folder."""
    try:
        found = folder.stat()
    except OSError:
        return True
    return bool(found.st_mode & stat.S_IXOTH or (found.st_mode & stat.S_IXGRP and not _private_group(found)))


def writable(path: str | os.PathLike[str]) -> str | None:
    """Return what lets other users write to the one file or folder at `path`, as words; None where nothing does."""
    return _writable(Path(path))


def unsafe_temp(path: str | os.PathLike[str]) -> str | None:
    """Return what lets other users rename or delete what this user makes in the folder `path`; None where nothing does.

    A folder for everybody is in order if it is sticky, as /tmp is.
    """
    folder = Path(os.path.realpath(path))
    return next((problem for one in (folder, *folder.parents) if (problem := _writable(one, sticky=True))), None)


def is_mine(found: os.stat_result) -> bool:
    """Return whether this user owns what was found."""
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def _writable(path: Path, *, sticky: bool = False) -> str | None:
    """Return why others can write to one path; with `sticky`, such a folder may be for everybody."""
    if not hasattr(os, "geteuid"):
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    if found.st_uid not in (os.geteuid(), 0, OVERFLOW_USER):
        return f"{path} belongs to {_name(found.st_uid)}"
    if sticky and found.st_mode & stat.S_ISVTX:
        return None
    if found.st_mode & stat.S_IWOTH:
        return f"{path} can be written by all users (mode {stat.S_IMODE(found.st_mode):o})"
    if found.st_mode & stat.S_IWGRP and not _private_group(found):
        return f"{path} can be written by group {_group(found.st_gid)} (mode {stat.S_IMODE(found.st_mode):o})"
    return None


def _private_group(found: os.stat_result) -> bool:
    """Return whether a group is that of its one user, as many systems make for each."""
    try:
        group, owner = grp.getgrgid(found.st_gid), pwd.getpwuid(found.st_uid)
    except KeyError:
        return False
    alone = not set(group.gr_mem) - {owner.pw_name}
    return alone and found.st_gid == owner.pw_gid and group.gr_name == owner.pw_name


def _name(user: int) -> str:
    try:
        return f"user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"user {user}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
