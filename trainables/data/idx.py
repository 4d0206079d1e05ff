"""The idx format of MNIST: a magic number, big-endian sizes, then bytes."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainables.core.errors import DataError
from trainables.data.files import FileData, Layout, Part

if TYPE_CHECKING:
    import numpy as np

    from trainables.data.base import Arrays

_PREFIX: dict[Part, str] = {"train": "train", "test": "t10k"}


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read one idx file of unsigned bytes, gzipped or not.

    Raises:
        DataError: the file is no idx file of this number of dimensions, or is truncated.
    """
    import numpy as np

    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(f"{path} is no idx file of unsigned bytes in {dimensions} dimensions")
    shape = np.frombuffer(content, ">u4", dimensions, offset=4).tolist()
    values = np.frombuffer(content, np.uint8, offset=header)
    if values.size != np.prod(shape, dtype=np.int64):
        raise DataError(f"{path} is damaged: its header says {shape}, but {values.size} bytes follow")
    return values.reshape(shape)


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
        return read_idx(images, 3)[:, None], read_idx(labels, 1).astype("int64")

    def _names(self, part: Part) -> tuple[str, str]:
        return f"{_PREFIX[part]}-images-idx3-ubyte", f"{_PREFIX[part]}-labels-idx1-ubyte"


class Idx(FileData):
    """Grey images in the idx files of MNIST: `train-images-idx3-ubyte[.gz]`, its labels and the test files."""

    kind: Literal["idx"] = "idx"

    def layouts(self) -> tuple[Layout, ...]:
        return (IdxLayout(),)
