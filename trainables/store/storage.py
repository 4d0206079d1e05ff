"""The storage of records and stages: a local directory or any `pyarrow.fs` URI.

A file is complete or absent: local files appear by rename after fsync, object stores make an object visible when it
is closed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trainables.core import credentials
from trainables.core.atomic import replace_file, sync_directory, temporary_name, write_new
from trainables.core.errors import SpecError, StorageError


@contextmanager
def _reported(what: str, *, missing: bool = True) -> Iterator[None]:
    """Turn errors of the system into ours, but leave it to the caller what a `missing` file means."""
    try:
        yield
    except OSError as error:
        if missing and isinstance(error, FileNotFoundError):
            raise
        raise StorageError(f"{what}: {error}") from error


class Storage:
    """Files below one directory, named by relative paths with forward slashes.

    Raises (every method):
        FileNotFoundError: the file to read is missing.
        StorageError: the disk, the network or the permissions refuse.
    """

    def __init__(self, location: str) -> None:
        """Open the local directory or the URI `location`; nothing is created yet.

        A directory that is missing now is created by the first write. One that disappears later is not made anew.

        Raises:
            SpecError: the URI holds credentials.
        """
        if credentials.in_uri(str(location)):
            raise SpecError(f"the storage: {credentials.ADVICE}")
        self.location = str(location)
        self._fs: Any = None
        if "://" in self.location and not self.location.startswith("file://"):
            from pyarrow import fs

            with _reported(f"cannot open the storage {self.location}"):
                try:
                    self._fs, self._base = fs.FileSystem.from_uri(self.location)
                except (ValueError, ImportError) as error:
                    raise StorageError(f"cannot open the storage {self.location}: {error}") from error
        else:
            self._base = os.path.abspath(self.location.removeprefix("file://"))
            self.location = self._base
        self._existed = self._fs is None and os.path.isdir(self._base)

    def __repr__(self) -> str:
        return f"Storage({self.location!r})"

    @property
    def local(self) -> Path | None:
        """The directory on this machine, or None for a remote storage."""
        return None if self._fs else Path(self._base)

    def child(self, path: str) -> Storage:
        """Open a directory below this one."""
        return Storage(f"{self.location.rstrip('/')}/{path}")

    def parent(self) -> Storage:
        """Open the directory around this one."""
        return Storage(self.location.rstrip("/").rpartition("/")[0] or "/")

    def _full(self, path: str) -> str:
        if path.startswith("/") or ".." in path.split("/"):
            raise StorageError(f"{path!r} leads out of the storage {self.location}")
        return f"{self._base}/{path}" if path else self._base

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        full = self._full(path)
        with _reported(f"cannot read {self.location}/{path}"):
            if self._fs is None:
                with open(full, "rb") as file:  # pathlib takes half as long again for the thousands of small records.
                    return file.read()
            with self._fs.open_input_file(full) as stream:
                return bytes(stream.read())

    def write(self, path: str, content: bytes, *, durable: bool = True) -> None:
        """Write a file; a reader sees the old content, the new, or none, never a part.

        One that is not `durable` costs no wait for the disk, and may be lost with the machine.
        """
        full = self._full(path)
        with _reported(f"cannot write {self.location}/{path}", missing=False):
            if self._fs is not None:
                self._fs.create_dir(os.path.dirname(full), recursive=True)
                with self._fs.open_output_stream(full) as file:
                    file.write(content)
                return
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
        made = self._base
        try:
            for part in os.path.relpath(folder, self._base).split(os.sep):
                made = os.path.join(made, part)
                with suppress(FileExistsError):
                    os.mkdir(made)
        except FileNotFoundError:
            raise StorageError(f"the directory {self.location} was moved or deleted") from None

    def is_link(self, path: str) -> bool:
        """Return whether a path is a link, or leads through one below the storage."""
        if self._fs is not None:
            return False
        parts = [part for part in path.split("/") if part]
        return any(os.path.islink("/".join((self._base, *parts[: n + 1]))) for n in range(len(parts)))

    def claim(self, path: str, content: bytes) -> bool:
        """Create a file that must not exist; return False where it does.

        Atomic on a local or shared file system; on an object store two claims in the same instant may both succeed.
        """
        full = self._full(path)
        if self._fs is not None:
            if self.exists(path):
                return False
            self.write(path, content)
            return True
        temporary = temporary_name(full)
        with _reported(f"cannot write {self.location}/{path}", missing=False):
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
        """Return whether a file or directory exists."""
        full = self._full(path)
        with _reported(f"cannot look for {self.location}/{path}"):
            if self._fs is None:
                return os.path.exists(full)
            from pyarrow import fs

            return bool(self._fs.get_file_info(full).type != fs.FileType.NotFound)

    def names(self, path: str = "") -> list[str]:
        """Return the sorted names in a directory; none where it does not exist."""
        full = self._full(path)
        with _reported(f"cannot list {self.location}/{path}"):
            if self._fs is None:
                return sorted(os.listdir(full)) if os.path.isdir(full) else []
            from pyarrow import fs

            selector = fs.FileSelector(full, allow_not_found=True)
            return sorted(info.base_name for info in self._fs.get_file_info(selector))

    def delete(self, path: str, *, through_links: bool = False) -> None:
        """Delete a file or a directory; a missing one is no error, and of a link what it leads to stays.

        Raises:
            StorageError: a directory on the way below the storage is a link, without `through_links`.
        """
        full = self._full(path)
        if not through_links and (way := path.rpartition("/")[0]) and self.is_link(way):
            raise StorageError(f"{self.location}/{way} is a link: nothing is deleted where it leads")
        with _reported(f"cannot delete {self.location}/{path}"):
            if self._fs is None:
                if os.path.isdir(full) and not os.path.islink(full):
                    shutil.rmtree(full)
                else:
                    Path(full).unlink(missing_ok=True)
            elif self.exists(path):
                from pyarrow import fs

                if self._fs.get_file_info(full).type == fs.FileType.Directory:
                    self._fs.delete_dir(full)
                else:
                    self._fs.delete_file(full)

    def size(self, path: str) -> int:
        """Return the bytes of all files in a directory and below; 0 where it does not exist."""
        full = self._full(path)
        with _reported(f"cannot read the size or age of {self.location}/{path}"):
            if self._fs is not None:
                from pyarrow import fs

                selector = fs.FileSelector(full, allow_not_found=True, recursive=True)
                return sum(int(info.size or 0) for info in self._fs.get_file_info(selector))
            total = 0
            for folder, _, names in os.walk(full):
                for name in names:
                    with suppress(FileNotFoundError):  # Deleted since it was listed.
                        total += os.lstat(os.path.join(folder, name)).st_size
            return total

    def age(self, path: str, now: float) -> float:
        """Return the seconds between a file's last change and the Unix time `now`."""
        full = self._full(path)
        with _reported(f"cannot read the size or age of {self.location}/{path}"):
            if self._fs is None:
                return now - os.path.getmtime(full)
            changed = self._fs.get_file_info(full).mtime_ns
            return now - changed / 1e9 if changed else 0.0
