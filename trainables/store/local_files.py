"""Files on a local disk or a shared file system: complete or absent, by rename after fsync and by links."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainables.core.atomic import replace_file, sync_directory, temporary_name, write_new
from trainables.core.errors import StorageError


@contextmanager
def _reported(what: str, *, missing: bool = True) -> Iterator[None]:
    """Turn errors of the system into ours, but leave it to the caller what a `missing` file means."""
    try:
        yield
    except OSError as error:
        if missing and isinstance(error, FileNotFoundError):
            raise
        raise StorageError(f"{what}: {error}") from error


class LocalFiles:
    """The files below one directory of this machine; see `trainables.store.storage.Storage`."""

    def __init__(self, folder: str) -> None:
        self.base = folder
        self._existed = os.path.isdir(folder)

    def _full(self, path: str) -> str:
        return f"{self.base}/{path}" if path else self.base

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        with (
            _reported(f"cannot read {self.base}/{path}"),
            open(
                self._full(path), "rb"
            ) as file,  # pathlib takes half as long again for the thousands of small records.
        ):
            return file.read()

    def write(self, path: str, content: bytes, *, durable: bool) -> None:
        """Replace a file by rename, after the disk has its content if it is to be `durable`."""
        full = self._full(path)
        with _reported(f"cannot write {self.base}/{path}", missing=False):
            folder = os.path.dirname(full)
            self._make_folder(folder)
            replace_file(full, content, durable=durable)
            if durable:
                sync_directory(folder)

    def _make_folder(self, folder: str) -> None:
        """Create the directories on the way to a file; a storage that was there and is gone is not made anew.

        Raises:
            StorageError: the directory of the storage was moved or deleted.
        """
        if not self._existed:
            os.makedirs(folder, exist_ok=True)
            self._existed = True
        if os.path.isdir(folder):
            return
        made = self.base
        try:
            for part in os.path.relpath(folder, self.base).split(os.sep):
                made = os.path.join(made, part)
                with suppress(FileExistsError):
                    os.mkdir(made)
        except FileNotFoundError:
            raise StorageError(f"the directory {self.base} was moved or deleted") from None

    def is_link(self, path: str) -> bool:
        """Return whether a path is a link, or leads through one below the directory."""
        parts = [part for part in path.split("/") if part]
        return any(os.path.islink("/".join((self.base, *parts[: n + 1]))) for n in range(len(parts)))

    def claim(self, path: str, content: bytes) -> bool:
        """Create a file by a link, which only one process can."""
        full = self._full(path)
        temporary = temporary_name(full)
        with _reported(f"cannot write {self.base}/{path}", missing=False):
            self._make_folder(os.path.dirname(full))
            try:
                write_new(temporary, content)
                os.link(temporary, full)
            except FileExistsError:
                return False
            finally:
                Path(temporary).unlink(missing_ok=True)
            sync_directory(os.path.dirname(full))
        return True

    def exists(self, path: str) -> bool:
        """Return whether there is a file, or anything else, at a path."""
        return os.path.exists(self._full(path))

    def has_directory(self, path: str) -> bool:
        """Return whether a directory exists."""
        return os.path.isdir(self._full(path))

    def names(self, path: str) -> list[str]:
        """Return the sorted names in a directory."""
        full = self._full(path)
        with _reported(f"cannot list {self.base}/{path}"):
            return sorted(os.listdir(full)) if os.path.isdir(full) else []

    def delete(self, path: str) -> None:
        """Delete a file or a link."""
        with _reported(f"cannot delete {self.base}/{path}"):
            Path(self._full(path)).unlink(missing_ok=True)

    def delete_directory(self, path: str) -> None:
        """Delete a directory with all in it; of a link what it leads to stays."""
        full = self._full(path)
        with _reported(f"cannot delete {self.base}/{path}"):
            if os.path.isdir(full) and not os.path.islink(full):
                shutil.rmtree(full)
            else:
                Path(full).unlink(missing_ok=True)

    def size(self, path: str) -> int:
        """Return the bytes of all files in a directory and below."""
        with _reported(f"cannot read the size of {self.base}/{path}"):
            total = 0
            for folder, _, names in os.walk(self._full(path)):
                for name in names:
                    with suppress(FileNotFoundError):  # Deleted since it was listed.
                        total += os.lstat(os.path.join(folder, name)).st_size
            return total

    def age(self, path: str, now: float) -> float:
        """Return the seconds between a file's last change and the Unix time `now`."""
        with _reported(f"cannot read the age of {self.base}/{path}"):
            return now - os.path.getmtime(self._full(path))
