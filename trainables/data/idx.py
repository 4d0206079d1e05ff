"""The idx format of MNIST: a magic number, big-endian sizes, then bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from trainables.core.errors import DataError
from trainables.data.files import FileData, Layout, Part

if TYPE_CHECKING:
    import numpy as np

    from trainables.data.base import Arrays

_DEFLATED = 1040
"""More bytes than gzip packs into one."""
_PREFIX: dict[Part, str] = {"train": "train", "test": "t10k"}


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read one idx file of unsigned bytes, gzipped or not.

    Raises:
        DataError: the file is not an idx file of this number of dimensions, or is truncated.
    """
    import numpy as np

    with _opened(path) as file:
        shape = _shape(file, path, dimensions)
        expected = math.prod(shape)
        # No more than the header says is unpacked, and no more than the file can hold.
        most = path.stat().st_size * (_DEFLATED if path.suffix == ".gz" else 1)
        if expected > most:
            raise DataError(f"{path} is damaged: its header says {shape}, more than the file can hold ({most} bytes)")
        values = np.frombuffer(file.read(expected + 1), np.uint8)
    if values.size != expected:
        more = " or more" if values.size > expected else ""
        raise DataError(f"{path} is damaged: its header says {shape}, but {values.size} bytes{more} follow")
    return values.reshape(shape)


def read_shape(path: Path, dimensions: int) -> list[int]:
    """Return the sizes in the header of an idx file.

    Raises:
        DataError: the file is not an idx file of this number of dimensions.
    """
    with _opened(path) as file:
        return _shape(file, path, dimensions)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged: {error}") from error


def _shape(file: IO[bytes], path: Path, dimensions: int) -> list[int]:
    header = file.read(4 + 4 * dimensions)
    if len(header) < 4 + 4 * dimensions or header[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(f"{path} is not an idx file of unsigned bytes in {dimensions} dimensions")
    return list(struct.unpack(f">{dimensions}I", header[4:]))


@dataclass(frozen=True)
class IdxLayout:
    """Pairs of an images and a labels file, below `folder`."""

    folder: str = ""

    def files(self, root: Path, part: Part) -> tuple[Path, ...]:
        """Return images and labels file; the unpacked one where both exist."""
        found = []
        for name in self._names(part):
            plain = root / self.folder / name
            packed = plain.with_name(f"{name}.gz")
            found += [path for path in (plain, packed) if path.is_file()][:1]
        return tuple(found) if len(found) == 2 else ()

    def expected(self, part: Part) -> str:
        """Name both files."""
        return " and ".join(f"{Path(self.folder, name)}[.gz]" for name in self._names(part))

    def read(self, root: Path, files: tuple[Path, ...]) -> Arrays:
        """Read grey images and their labels."""
        images, labels = files
        counts = read_shape(images, 3)[0], read_shape(labels, 1)[0]
        if counts[0] != counts[1]:
            raise DataError(f"{images} has {counts[0]} images, but {labels.name} has {counts[1]} labels")
        return read_idx(images, 3)[:, None], read_idx(labels, 1).astype("int64")

    def count(self, files: tuple[Path, ...]) -> int:
        """Return the number of images in the header."""
        return read_shape(files[0], 3)[0]

    def _names(self, part: Part) -> tuple[str, str]:
        return f"{_PREFIX[part]}-images-idx3-ubyte", f"{_PREFIX[part]}-labels-idx1-ubyte"


class Idx(FileData):
    """Grey images in the idx files of MNIST: `train-images-idx3-ubyte[.gz]`, its labels and the test files."""

    kind: Literal["idx"] = "idx"

    def layouts(self) -> tuple[Layout, ...]:
        return (IdxLayout(),)
