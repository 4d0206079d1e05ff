"""Data sets in files: the layouts that a folder may have, and the folders that are searched."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Self

from trainables.core.errors import DataError
from trainables.core.locations import without_parents
from trainables.data.base import Data
from trainables.data.content import readable

if TYPE_CHECKING:
    from trainables.data.base import Arrays

Part = Literal["train", "test"]
DATA_VARIABLE = "ROBUSTSEARCH_DATA"


class MissingData(DataError):
    """The files of a data set are in none of the folders that were searched."""


class Layout(Protocol):
    """One way in which files are arranged below a folder."""

    def files(self, root: Path, part: Part) -> tuple[Path, ...]:
        """Return the files of a split in reading order; none where one of them is missing."""

    def expected(self, part: Part) -> str:
        """Describe the files of a split for a person who has to provide them."""

    def count(self, files: tuple[Path, ...]) -> int | None:
        """Count the images of what `files` returned, if that is possible without decoding them.

        Raises:
            DataError: a file is not what it should be.
        """

    def read(self, root: Path, files: tuple[Path, ...]) -> Arrays:
        """Read a split from what `files` returned for `root`.

        Raises:
            DataError: a file is not what it should be.
        """


Found = tuple[Path, Layout, tuple[Path, ...]]


class FileData(Data):
    """Base of data sets that are files in one of several layouts."""

    @abstractmethod
    def layouts(self) -> tuple[Layout, ...]:
        """Return the accepted layouts; the first that is found is read."""

    def system_folders(self) -> tuple[Path, ...]:
        """Return system folders that are searched where no `root` is given."""
        return ()

    def fetcher(self) -> Callable[[Path, Part], None] | None:
        """Return the function that downloads a split below a folder, if there is one."""
        return None

    def roots(self) -> tuple[Path, ...]:
        """Return the folders that are searched, in order."""
        if self.root is not None:
            return (Path(self.root).expanduser(),)
        base = Path(os.environ.get(DATA_VARIABLE) or "data")
        return (base.expanduser() / self.kind, *self.system_folders())

    def find(self, part: Part) -> Found:
        """Return the folder, the layout and the files of a split, downloaded if missing and the spec says so.

        Raises:
            MissingData: with what is expected where.
            DataError: the download failed.
        """
        found = _look(self.roots(), self.layouts(), part)
        fetch = self.fetcher()
        if found is None and self.download and fetch is not None:
            root = self.roots()[0]
            with _locked(root):  # Of several trials on a machine one downloads.
                if (found := _look(self.roots(), self.layouts(), part)) is None:
                    _fetch(fetch, root, part, self.kind)
                    found = _look(self.roots(), self.layouts(), part)
        if found is None:
            raise MissingData(_missing(self, part, downloadable=fetch is not None))
        return found

    def read(self, part: Part) -> Arrays:
        """Read a split in the layout it has."""
        root, layout, files = self.find(part)
        try:
            return layout.read(root, files)
        except OSError as error:
            where = readable(str(error.filename or files[0]))
            raise DataError(f"{self.kind}: cannot read {where}: {error.strerror or error}") from error

    def read_training(self) -> Arrays:
        return self.read("train")

    def count_training(self) -> int | None:
        return self._count(self.find("train"))

    def count_test(self) -> int | None:
        found = _look(self.roots(), self.layouts(), "test")
        return self.test_images if found is None else self._count(found)

    def _count(self, found: Found) -> int | None:
        root, layout, files = found
        try:
            return layout.count(files)
        except OSError as error:
            raise DataError(f"{self.kind}: cannot read {error.filename or root}: {error.strerror or error}") from error

    def read_test(self) -> Arrays:
        return self.read("test")

    def check_test(self) -> None:
        super().check_test()
        if not self.download and _look(self.roots(), self.layouts(), "test") is None:
            raise MissingData(_missing(self, "test", downloadable=self.fetcher() is not None))

    def training_files(self) -> tuple[Path, ...]:
        return self.find("train")[2]

    def located(self) -> Self:
        root = str(without_parents(self.find("train")[0]).absolute())
        if readable(root) != root:
            raise DataError(f"{readable(root)}: a folder's name has characters that cannot be written; rename it")
        return self.model_copy(update={"root": root})


def _look(roots: Sequence[Path], layouts: Sequence[Layout], part: Part) -> Found | None:
    for root in roots:
        for layout in layouts:
            try:
                # Path.is_file and the like hide most errors from Python 3.14 on.
                with suppress(FileNotFoundError, NotADirectoryError, ValueError):
                    os.stat(os.path.join(root, "."))
            except OSError as error:
                raise DataError(f"cannot look for data in {root}: {error.strerror}") from error
            try:
                files = layout.files(root, part)
            except OSError as error:
                where = readable(str(error.filename or root))
                raise DataError(f"cannot look for data in {where}: {error.strerror}") from error
            if files:
                return root, layout, files
    return None


def refuse_equal(files: Sequence[Path]) -> None:
    """Refuse two files of one content, whose images would be read twice.

    Raises:
        DataError: names both.
    """
    sizes: dict[int, list[Path]] = {}
    for path in files:
        sizes.setdefault(path.stat().st_size, []).append(path)
    for paths in sizes.values():
        seen: dict[bytes, Path] = {}
        for path in paths if len(paths) > 1 else ():
            with path.open("rb") as file:
                first = seen.setdefault(hashlib.file_digest(file, "sha256").digest(), path)
            if first is not path:
                raise DataError(
                    f"{first} and {path.name} have the same content, so each image would be read twice: remove one"
                )


def _missing(spec: FileData, part: Part, *, downloadable: bool) -> str:
    split = "training" if part == "train" else "test"
    looked = " and ".join(str(without_parents(root).absolute()) for root in spec.roots())
    accepted = "".join(f"\n  - {layout.expected(part)}" for layout in spec.layouts())
    advice = f"Set `root` to the folder that holds them (or {DATA_VARIABLE} to the folder above {spec.kind}/)"
    if downloadable and not spec.download:
        advice += ", or `download: true` to fetch them"
    return f"{spec.kind}: no {split} files in {looked}; expected there one of:{accepted}\n{advice}."


def _fetch(fetch: Callable[[Path, Part], None], root: Path, part: Part, kind: str) -> None:
    try:
        fetch(root, part)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{kind}: the download to {root} failed: {error}") from error


def _locked(root: Path) -> AbstractContextManager[object]:
    """Acquire the lock for downloads to a folder, which is created; return what releases it."""
    from filelock import FileLock

    try:
        root.mkdir(parents=True, exist_ok=True)
        return FileLock(root / ".download.lock").acquire()
    except (OSError, NotImplementedError) as error:
        raise DataError(f"cannot download to {root}: {error}") from error
