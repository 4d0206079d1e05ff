"""Image files in one folder per class, as for torchvision's ImageFolder and in Tiny-ImageNet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from pydantic import Field

from trainables.core.errors import DataError
from trainables.data.content import Content, Notes, listed, readable
from trainables.data.files import FileData, Layout, Part

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Those of torchvision's ImageFolder."""
_HIDDEN = frozenset(
    (
        *("#recycle", "$recycle.bin", "@eadir", "@recycle", "__macosx", "__pycache__"),
        *("desktop.ini", "lost+found", "system volume information", "thumbs.db"),
    )
)
"""What systems leave in folders, in lower case, besides names that begin with a dot."""
_ANNOTATIONS = "val_annotations.txt"
_OTHER_IMAGES = frozenset((".avif", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jxl", ".npy", ".psd", ".svg", ".tga"))
"""Images that are not read, and so deserve a line of their own."""


@dataclass(frozen=True)
class ClassFolders:
    """`train/<class>/` and `test/<class>/`, or `val/` in place of `test/`.

    Images may be in subfolders of the class folder. Tiny-ImageNet's `val/`, which names the classes in
    `val_annotations.txt`, is read too.
    """

    channels: int | None = None
    size: int | None = None

    def files(self, root: Path, part: Part) -> tuple[Path, ...]:
        """Return the images in the order of their paths.

        Raises:
            DataError: a class has none.
        """
        names = _classes(root)
        if part == "train":
            return _Walk(root / "train").images(names, every=True)
        for split in ("test", "val"):
            if found := _Walk(root / split).images(names):
                return found
        annotated = (root / "val" / "images" / name for name in _annotations(root / "val"))
        return tuple(sorted(path for path in annotated if path.is_file()))

    def expected(self, part: Part) -> str:
        """Describe the folders."""
        split = "train" if part == "train" else "test (or val)"
        return f"{split}/<class>/ with images ({', '.join(EXTENSIONS)})"

    def count(self, files: tuple[Path, ...]) -> int:
        """Count the images."""
        return len(files)

    def read(self, root: Path, files: tuple[Path, ...]) -> Content:
        """Decode the images; a class's label is its index among the sorted folders of `train/`."""
        import numpy as np

        from trainables.data.decode import decode

        names = _classes(root)
        labels = {name: label for label, name in enumerate(names)}
        split, second = files[0].relative_to(root).parts[:2]
        annotations = {} if second in labels else _annotations(root / "val")
        walk = _Walk(root / split)
        folders = [] if annotations else walk.folders()
        classes = [annotations[path.name] if annotations else path.relative_to(root).parts[1] for path in files]
        if unknown := {*classes, *folders} - set(labels):
            other = readable(sorted(unknown)[0])
            raise DataError(f"{readable(str(root))}: {other!r} is a class of the test images only")
        if not annotations:
            walk.images(names)
        images = decode(_opened(files), len(files), channels=self.channels, size=self.size, notes=walk.notes)
        return Content(images, np.array([labels[name] for name in classes], np.int64), tuple(names), walk.notes.lines())


@dataclass
class _Walk:
    """One look through the folders of a split, which follows links and counts what is not used."""

    split: Path
    notes: Notes = field(default_factory=Notes)
    _seen: set[tuple[int, int]] = field(default_factory=set)

    def folders(self) -> list[str]:
        """Return the names of the class folders, sorted."""
        if not self.split.is_dir():
            return []
        return sorted(entry.name for entry in os.scandir(self.split) if _is_folder(entry) and not _hidden(entry.name))

    def images(self, classes: list[str], *, every: bool = False) -> tuple[Path, ...]:
        """Return the images of the classes in the order of their paths.

        Raises:
            DataError: with `every`, if a class has none.
        """
        found = []
        for name in classes:
            if not (self.split / name).is_dir():
                continue
            self._seen = {_identity(folder) for folder in (self.split.parent, self.split)}
            images = list(self._below(self.split / name))
            if every and not images:
                raise DataError(
                    f"{readable(str(self.split / name))} has no images ({', '.join(EXTENSIONS)})"
                    + (f", but {listed(others)}" if (others := sorted(os.listdir(self.split / name))) else "")
                    + "; remove the folder, or put images into it"
                )
            found += images
        if self.split.is_dir():
            for entry in os.scandir(self.split):
                if not (_is_folder(entry) and (entry.name in classes or not _hidden(entry.name))):
                    self._leave(entry, beside=True)
        return tuple(sorted(found))

    def _below(self, folder: Path) -> Iterator[Path]:
        identity = _identity(folder)
        if identity in self._seen:
            self.notes.add("link", "not followed, to folders that are read already", self._name(folder))
            return
        self._seen.add(identity)
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if _hidden(entry.name):
                    self._leave(entry)
                elif _is_folder(entry):
                    yield from self._below(Path(entry.path))
                elif _is_file(entry) and entry.name.lower().endswith(EXTENSIONS):
                    yield Path(entry.path)
                else:
                    self._leave(entry)

    def _leave(self, entry: os.DirEntry[str], *, beside: bool = False) -> None:
        """Note a file or link that is not used, or all files below a hidden folder."""
        if entry.is_dir(follow_symlinks=False):  # A hidden link may lead anywhere.
            inside = [Path(top, name) for top, _, names in os.walk(entry.path) for name in names]
        else:
            inside = [Path(entry.path)]
        for path in sorted(inside):
            self.notes.add("file", self._reason(entry, beside), self._name(path))

    def _reason(self, entry: os.DirEntry[str], beside: bool) -> str:
        if _hidden(entry.name):
            return "not used, hidden"
        if not _is_file(entry):
            return "not used, a broken link or no regular file"
        if beside:
            return "not used, in no class folder"
        suffix = Path(entry.name).suffix.lower()
        if suffix in _OTHER_IMAGES:
            return f"not used, as {suffix} is not read"
        return "not used, no image by the extension"

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.split.parent))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def _is_file(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False) or (entry.is_symlink() and os.path.isfile(entry.path))


def _identity(folder: Path) -> tuple[int, int]:
    stat = os.stat(folder)
    return stat.st_dev, stat.st_ino


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _HIDDEN


def _classes(root: Path) -> list[str]:
    return _Walk(root / "train").folders()


def _annotations(folder: Path) -> dict[str, str]:
    """Return the class of each image by file name; an empty dict without `val_annotations.txt`."""
    path = folder / _ANNOTATIONS
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8: {error}") from error
    rows = (line.split("\t") for line in text.splitlines() if line.strip())
    return {row[0]: row[1] for row in rows if len(row) > 1}


def _opened(files: tuple[Path, ...]) -> Iterator[tuple[str, IO[bytes]]]:
    for path in files:
        with path.open("rb") as file:
            yield readable(str(path)), file


class ImageFolder(FileData):
    """Image files in `root/train/<class>/` and `root/test/<class>/` (or `val`)."""

    kind: Literal["image_folder"] = "image_folder"
    channels: Literal[1, 3] = Field(default=3, description="3 converts all images to RGB, 1 to grey")
    size: int | None = Field(
        default=None, gt=0, le=1024, description="resize all images to squares of this many pixels a side"
    )

    def unused_files(self) -> tuple[str, ...]:
        root = self.find("train")[0]
        walk = _Walk(root / "train")
        walk.images(_classes(root))
        return walk.notes.lines()

    def layouts(self) -> tuple[Layout, ...]:
        return (ClassFolders(self.channels, self.size),)
