"""Files that are complete or absent, whatever kills the process or the machine while they are written."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

TEMPORARY = ".tmp"
"""How the names of files that are being written end."""

Content = bytes | Callable[[IO[bytes]], Any]
"""What a file gets: bytes, or a function that writes them."""


def temporary_name(path: str | os.PathLike[str]) -> str:
    """Return an unused name beside `path` for its content until it is complete."""
    return f"{os.fspath(path)}.{uuid.uuid4().hex}{TEMPORARY}"


def write_new(path: str | os.PathLike[str], content: Content, *, durable: bool = True) -> None:
    """Write a file that must not exist, and wait until the disk has it, unless it need not be `durable`.

    Raises:
        OSError: the file exists, or the disk refuses.
    """
    with open(path, "xb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def replace_file(path: str | os.PathLike[str], content: Content, *, durable: bool = True) -> None:
    """Write a file, replacing one that exists: a reader sees the old content or the new, never a part.

    One that is not `durable` may be lost with the machine.

    Raises:
        OSError: the disk refuses; the old content stays, and no temporary file.
    """
    temporary = temporary_name(path)
    try:
        write_new(temporary, content, durable=durable)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def sync_directory(folder: str | os.PathLike[str]) -> None:
    """Wait until the disk has a directory's entries."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
