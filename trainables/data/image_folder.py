"""Image files in one folder per class, as for torchvision's ImageFolder and in Tiny-ImageNet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from pydantic import Field

from trainables.core.errors import DataError
from trainables.data.files import FileData, Layout, Part

if TYPE_CHECKING:
    from trainables.data.base import Arrays

_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".pgm", ".ppm"))
_ANNOTATIONS = "val_annotations.txt"


@dataclass(frozen=True)
class ClassFolders:
    """`train/<class>/` and `test/<class>/`, or `val/` in place of `test/`.

    Images may be in subfolders of the class folder. Tiny-ImageNet's `val/`, which names the classes in
    `val_annotations.txt`, is read too.
    """

    channels: int | None = None
    size: int | None = None

    def files(self, root: Path, part: Part) -> tuple[Path, ...]:
        """Return the images in the order of their paths."""
        if part == "train":
            return _images(root / "train", _classes(root))
        for split in ("test", "val"):
            if found := _images(root / split, _classes(root)):
                return found
        annotated = (root / "val" / "images" / name for name in _annotations(root / "val"))
        return tuple(sorted(path for path in annotated if path.is_file()))

    def expected(self, part: Part) -> str:
        """Describe the folders."""
        split = "train" if part == "train" else "test (or val)"
        return f"{split}/<class>/ with images ({', '.join(sorted(_SUFFIXES))})"

    def read(self, root: Path, files: tuple[Path, ...]) -> Arrays:
        """Decode the images; a class's label is its index among the sorted folders of `train/`."""
        import numpy as np

        from trainables.data.decode import decode

        labels = {name: label for label, name in enumerate(_classes(root))}
        annotations = {} if files[0].relative_to(root).parts[1] in labels else _annotations(root / "val")
        classes = [annotations[path.name] if annotations else path.relative_to(root).parts[1] for path in files]
        if unknown := set(classes) - set(labels):
            raise DataError(f"{root}: {sorted(unknown)[0]!r} is a class of the test images only")
        images = decode(_opened(files), len(files), channels=self.channels, size=self.size)
        return images, np.array([labels[name] for name in classes], np.int64)


def _classes(root: Path) -> list[str]:
    train = root / "train"
    if not train.is_dir():
        return []
    return sorted(path.name for path in train.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(split: Path, classes: list[str]) -> tuple[Path, ...]:
    below = (path for name in classes for path in (split / name).rglob("*"))
    return tuple(sorted(path for path in below if path.suffix.lower() in _SUFFIXES and path.is_file()))


def _annotations(folder: Path) -> dict[str, str]:
    """Return the class of each image by file name; an empty dict without `val_annotations.txt`."""
    path = folder / _ANNOTATIONS
    if not path.is_file():
        return {}
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return {row[0]: row[1] for row in rows if len(row) > 1}


def _opened(files: tuple[Path, ...]) -> Iterator[tuple[str, IO[bytes]]]:
    for path in files:
        with path.open("rb") as file:
            yield str(path), file


class ImageFolder(FileData):
    """Image files in `root/train/<class>/` and `root/test/<class>/` (or `val`)."""

    kind: Literal["image_folder"] = "image_folder"
    channels: Literal[1, 3] = Field(default=3, description="3 converts all images to RGB, 1 to grey")
    size: int | None = Field(
        default=None, gt=0, le=1024, description="resize all images to squares of this many pixels a side"
    )

    def layouts(self) -> tuple[Layout, ...]:
        return (ClassFolders(self.channels, self.size),)
