"""Stages in memory, for a small trial that leaves nothing behind."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from trainables.store.stages import Stages
from trainables.store.storage import Storage


class InMemory(Stages):
    """Stages packed and unpacked as on a disk, which no other process sees."""

    def __init__(self) -> None:
        super().__init__(_Memory())

    def acquire(self, key: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Return a lease on nothing: nobody else computes here."""
        return nullcontext()


class _Memory(Storage):
    """Files by path, in a dictionary."""

    def __init__(self) -> None:
        super().__init__("memory")
        self._files: dict[str, bytes] = {}

    def read(self, path: str) -> bytes:
        try:
            return self._files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def write(self, path: str, content: bytes, *, durable: bool = True) -> None:
        self._files[path] = content

    def claim(self, path: str, content: bytes) -> bool:
        return self._files.setdefault(path, content) is content

    def exists(self, path: str) -> bool:
        return any(name == path or name.startswith(f"{path}/") for name in self._files)

    def is_link(self, path: str) -> bool:
        return False

    def names(self, path: str = "") -> list[str]:
        inside = (name.removeprefix(f"{path}/") for name in self._files if name.startswith(f"{path}/"))
        return sorted({name.partition("/")[0] for name in inside})

    def delete(self, path: str, *, through_links: bool = False) -> None:
        for name in [name for name in self._files if name == path or name.startswith(f"{path}/")]:
            del self._files[name]
