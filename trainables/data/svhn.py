"""Street View House Numbers, cropped digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from trainables.core.errors import DataError
from trainables.data.files import FileData, Layout, Part
from trainables.data.parquet import ParquetLayout

if TYPE_CHECKING:
    from trainables.data.base import Arrays


@dataclass(frozen=True)
class MatLayout:
    """MATLAB files with `X` (32, 32, 3, N) and `y` (N, 1), in which the digit 0 has the label 10."""

    def files(self, root: Path, part: Part) -> tuple[Path, ...]:
        """Return the one file."""
        path = root / f"{part}_32x32.mat"
        return (path,) if path.is_file() else ()

    def expected(self, part: Part) -> str:
        """Name the file."""
        return f"{part}_32x32.mat (as torchvision keeps it)"

    def count(self, files: tuple[Path, ...]) -> None:
        """Count nothing: the file has to be read whole."""

    def read(self, root: Path, files: tuple[Path, ...]) -> Arrays:
        """Read images and labels, the label 10 as 0."""
        import numpy as np
        from scipy.io import loadmat

        try:
            content = loadmat(str(files[0]))
            labels = content["y"].reshape(-1).astype(np.int64)
            images = np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1))
        # What a damaged MATLAB file raises depends on the byte that is wrong.
        except Exception as error:
            raise DataError(f"{files[0]} is not an SVHN file: {type(error).__name__}: {error}") from error
        return images, np.where(labels == 10, 0, labels)


class Svhn(FileData):
    """House numbers: 73,257 training and 26,032 test colour images of 32x32 pixels, 10 classes."""

    kind: Literal["svhn"] = "svhn"
    shape: ClassVar[tuple[int, int, int] | None] = (3, 32, 32)
    classes: ClassVar[int | None] = 10
    training_images: ClassVar[int | None] = 73_257
    test_images: ClassVar[int | None] = 26_032

    def layouts(self) -> tuple[Layout, ...]:
        return (MatLayout(), ParquetLayout(channels=3))

    def fetcher(self) -> Callable[[Path, Part], None]:
        return _fetch


def _fetch(root: Path, part: Part) -> None:
    from torchvision.datasets import SVHN

    SVHN(str(root), split=part, download=True)
