"""Write files for the user: atomically, and never over anything but a regular file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from trainables.core.atomic import replace_file
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
    try:
        target = output.resolve()
        if target.is_symlink():  # from Python 3.13 on, loops are left as they are
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target))
        if target.exists() and not target.is_file():
            raise OutputError(f"{output} is {'a directory' if target.is_dir() else 'not a regular file'}; name a file")
        if records is not None:
            check_outside(output, records)
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, content)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise StorageError(f"cannot write {output}: {reason}") from error
        raise OutputError(f"cannot write {output}: {reason}") from error
    return without_parents(output)


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
