"""Write files for the user: atomically, and never over anything but a regular file."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.core.atomic import replace_file, temporary_name
from trainables.core.errors import RobustsearchError, StorageError
from trainables.core.locations import without_parents
from trainables.store import paths


class OutputError(RobustsearchError):
    """The output cannot be written there."""


def write_output(content: bytes, output: Path, *, records: Path | None = None) -> Path:
    """Write `output` by rename and return it; its directory is created if needed.

    A regular file is replaced (a link to one: the file it names). In a study's directory `records` only
    `exports/` may be written to.

    Raises:
        OutputError: the output is not a regular file, is one of the study's records, or cannot be written.
        StorageError: the disk is full or failing.
    """
    output = Path(output)
    with _reported(output):
        target = _resolved(output)
        if target.exists() and not target.is_file():
            raise OutputError(f"{output} is {'a directory' if target.is_dir() else 'not a regular file'}; name a file")
        if records is not None:
            check_outside(output, records)
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, content)
    return without_parents(output)


def write_directory(write: Callable[[Path], None], output: Path, *, records: Path | None = None) -> Path:
    """Let `write` fill a new directory, which appears as `output` once it is complete, and return that.

    An empty directory is replaced, nothing else is. `write` gets the path of a directory beside `output`.

    Raises:
        OutputError: there is something already, the output is in the study's directory, or cannot be written.
        StorageError: the disk is full or failing.
    """
    output = Path(output)
    with _reported(output):
        target = _resolved(output)
        check_new(output)
        if records is not None:
            check_outside(output, records)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(temporary_name(target))
        try:
            temporary.mkdir()
            write(temporary)
            os.rename(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return without_parents(output)


def check_new(output: Path) -> None:
    """Refuse a directory to write that is there already, unless it is empty.

    Raises:
        OutputError: there is something.
    """
    if output.is_dir() and any(output.iterdir()):
        raise OutputError(f"{output} is not empty; name a new directory")
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file; name a new directory")


def _resolved(output: Path) -> Path:
    target = output.resolve()
    if target.is_symlink():  # from Python 3.13 on, loops are left as they are
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target))
    return target


@contextmanager
def _reported(output: Path) -> Iterator[None]:
    """Turn errors of the system into ours."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise StorageError(f"cannot write {output}: {reason}") from error
        raise OutputError(f"cannot write {output}: {reason}") from error


@contextmanager
def full_disk_reported(output: Path) -> Iterator[None]:
    """Recognise a full disk in the errors of libraries that write files by themselves, such as SQLite's.

    Raises:
        StorageError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        if any(text in str(cause).lower() for cause in _causes(error) for text in ("disk is full", "no space left")):
            raise StorageError(f"cannot write {output}: {os.strerror(errno.ENOSPC)}") from error
        raise


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def check_outside(output: Path, records: Path) -> None:
    """Refuse an output among the records of a study, whose directory `records` is; `exports/` in it is for outputs.

    Raises:
        OutputError: it is there.
    """
    target, home = output.resolve(), records.resolve()
    exports = home / paths.EXPORTS
    if target.is_relative_to(home) and not target.is_relative_to(exports):
        raise OutputError(f"{output} is inside the study's directory; choose another path, or one in {exports}")


def _replace(target: Path, content: bytes) -> None:
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "it is read-only", str(target))
    replace_file(target, content)
