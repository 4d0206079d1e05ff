"""The standard streams: closed ones, full ones, and readers that leave."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from search.files.messages import abandon
from trainables.core.errors import ExitCode

_OF_A_STREAM = (errno.EBADF, errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG)


class Refused(Exception):
    """What the operating system refused, which click would end with 1 where it is a reader that left."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def prepare() -> None:
    """Make the standard streams safe to write to.

    Python has none where the descriptor is closed, and the next file that is opened would get its number. Writing to
    a closed stdout then fails as on a full disk; messages on a closed stderr are lost.
    """
    if sys.stdout is None:
        sys.stdout = _opened(1, os.O_RDONLY)
    if sys.stderr is None:
        sys.stderr = _opened(2, os.O_WRONLY)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # A terminal without UTF-8 is not a reason to fail.


def _opened(descriptor: int, flags: int) -> TextIO:
    null = os.open(os.devnull, flags)
    os.dup2(null, descriptor)
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def flush() -> None:
    """Write what stdout still holds.

    Raises:
        OSError: it cannot be written.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def complete() -> None:
    """Send to stderr what exit handlers and threads print from now on: the answer on stdout is complete."""
    with suppress(OSError):  # One of them is closed.
        os.dup2(2, 1)


def lost(error: OSError) -> tuple[str, ExitCode]:
    """Give up stdout where it caused an error, and return what to say of the error, nothing for a reader that left."""
    if error.errno == errno.EPIPE:
        abandon(sys.stdout)
        return "", ExitCode.PIPE_CLOSED
    reason = error.strerror or str(error)
    try:
        flush()
        ours = error.filename is None and error.errno in _OF_A_STREAM
    except OSError:
        ours = True
    if ours:
        abandon(sys.stdout)
        return f"cannot write to stdout: {reason}", ExitCode.STORAGE
    if error.filename is None and not _stands_somewhere():
        return "the current directory no longer exists; change to another one", ExitCode.STORAGE
    return f"{error.filename or 'the system'}: {reason}", ExitCode.STORAGE


def _stands_somewhere() -> bool:
    try:
        return Path.cwd().exists()
    except OSError:
        return False
