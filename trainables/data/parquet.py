"""Parquet files of encoded images: the layout in which Hugging Face publishes image data sets."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from pydantic import Field

from trainables.core.errors import DataError
from trainables.core.registry import nearest
from trainables.data.files import FileData, Layout, Part

if TYPE_CHECKING:
    import numpy as np

    from trainables.data.base import Arrays


@dataclass(frozen=True)
class ParquetLayout:
    """`train*.parquet` and `test*.parquet` in a folder, or in the only folder below it that has them.

    The first column of `images` and of `labels` that exists is read.
    """

    images: tuple[str, ...] = ("img", "image")
    labels: tuple[str, ...] = ("label", "fine_label")
    channels: int | None = None
    size: int | None = None

    def files(self, root: Path, part: Part) -> tuple[Path, ...]:
        """Return the shards in the order of their names.

        Raises:
            DataError: several folders below `root` have such files.
        """
        if found := sorted(root.glob(f"{part}*.parquet")):
            return tuple(found)
        below = sorted(root.glob(f"*/{part}*.parquet"))
        folders = sorted({path.parent for path in below})
        if len(folders) > 1:
            names = ", ".join(str(folder) for folder in folders)
            raise DataError(f"several folders have {part}*.parquet: {names}; set `root` to one of them")
        return tuple(below)

    def expected(self, part: Part) -> str:
        """Describe files and columns."""
        columns = " or ".join(f"`{name}`" for name in self.images), " or ".join(f"`{name}`" for name in self.labels)
        return f"{part}*.parquet with columns {columns[0]} (struct with `bytes`, an image file) and {columns[1]} (int)"

    def read(self, root: Path, files: tuple[Path, ...]) -> Arrays:
        """Decode all shards."""
        import numpy as np
        import pyarrow as pa

        try:
            tables = [self._table(path) for path in files]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"{files[0].parent}: damaged Parquet file: {error}") from error
        labels = np.concatenate([self._labels(table, path) for table, path in zip(tables, files, strict=True)])
        rows = (row for table, path in zip(tables, files, strict=True) for row in _encoded(table, path))
        from trainables.data.decode import decode

        return decode(rows, len(labels), channels=self.channels, size=self.size), labels

    def _table(self, path: Path) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        # Opened by Python and not by Arrow, so that an audit hook sees which files are read.
        with path.open("rb") as opened:
            file = pq.ParquetFile(opened)
            schema = file.schema_arrow
            image, label = (_column(wanted, schema.names, path) for wanted in (self.images, self.labels))
            kind = schema.field(image).type
            if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
                raise DataError(f"{path}: column {image!r} is {kind}, not a struct with `bytes`")
            if not pa.types.is_integer(schema.field(label).type):
                raise DataError(f"{path}: column {label!r} is {schema.field(label).type}, not integers")
            return file.read(columns=[f"{image}.bytes", label]).rename_columns(["image", "label"])

    def _labels(self, table: Any, path: Path) -> np.ndarray:
        column = table.column("label")
        if column.null_count:
            raise DataError(f"{path}: {column.null_count} rows have no label")
        labels: np.ndarray = column.to_numpy().astype("int64")
        return labels


def _column(wanted: tuple[str, ...], names: list[str], path: Path) -> str:
    for name in wanted:
        if name in names:
            return name
    hint = nearest(wanted[0], names)
    raise DataError(f"{path} has no column {' or '.join(map(repr, wanted))}, only {', '.join(names)}{hint}")


def _encoded(table: Any, path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    row = 0
    for chunk in table.column("image").chunks:
        for content in chunk.field("bytes"):
            if not content.is_valid:
                raise DataError(f"{path}, row {row}: no image bytes")
            yield f"{path}, row {row}", io.BytesIO(content.as_buffer())
            row += 1


class Parquet(FileData):
    """A folder of Parquet files of encoded images, as Hugging Face publishes them."""

    kind: Literal["parquet"] = "parquet"
    image: str | None = Field(default=None, description="column of the images; by default img or image")
    label: str | None = Field(default=None, description="column of the labels; by default label or fine_label")
    channels: Literal[1, 3] | None = Field(
        default=None, description="3 converts all images to RGB, 1 to grey; by default as the first image is"
    )
    size: int | None = Field(
        default=None, gt=0, le=1024, description="resize all images to squares of this many pixels a side"
    )

    def layouts(self) -> tuple[Layout, ...]:
        usual = ParquetLayout()
        images = (self.image,) if self.image else usual.images
        labels = (self.label,) if self.label else usual.labels
        return (ParquetLayout(images, labels, self.channels, self.size),)
