"""Parquet files of encoded images: the layout in which Hugging Face publishes image data sets."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from pydantic import Field

from trainables.core.errors import DataError
from trainables.core.registry import nearest
from trainables.data.content import Content, Notes
from trainables.data.files import FileData, Layout, Part, refuse_equal

if TYPE_CHECKING:
    import numpy as np

Result = TypeVar("Result")
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?\.parquet")
"""The name of a shard; older libraries add a hash."""


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
            DataError: several folders below `root` have such files, or they are not the shards of one data set.
        """
        found = sorted(root.glob(f"{part}*.parquet"))
        if not found:
            found = [path for path in sorted(root.glob(f"*/{part}*.parquet")) if not path.parent.name.startswith(".")]
        folders = sorted({path.parent for path in found})
        if len(folders) > 1:
            names = ", ".join(str(folder) for folder in folders)
            raise DataError(f"several folders have {part}*.parquet: {names}; set `root` to one of them")
        _check_shards(found)
        return tuple(found)

    def expected(self, part: Part) -> str:
        """Describe files and columns."""
        columns = " or ".join(f"`{name}`" for name in self.images), " or ".join(f"`{name}`" for name in self.labels)
        return f"{part}*.parquet with columns {columns[0]} (struct with `bytes`, an image file) and {columns[1]} (int)"

    def count(self, files: tuple[Path, ...]) -> int:
        """Add the rows of the shards, by their footers."""
        return sum(self._opened(path, lambda file: int(file.metadata.num_rows)) for path in files)

    def read(self, root: Path, files: tuple[Path, ...]) -> Content:
        """Decode all shards."""
        import numpy as np

        refuse_equal(files)
        notes = _unused(files)
        shards = [self._opened(path, partial(self._shard, path=path, notes=notes)) for path in files]
        if len({shard.names for shard in shards}) > 1:
            raise DataError(f"{files[0].parent}: the shards name their classes differently")
        labels = np.concatenate([shard.labels for shard in shards])
        if not len(labels):
            raise DataError(f"{files[0].parent}: {', '.join(path.name for path in files)} have no rows")
        rows = (row for shard, path in zip(shards, files, strict=True) for row in _encoded(shard.images, path))
        from trainables.data.decode import decode

        images = decode(rows, len(labels), channels=self.channels, size=self.size, notes=notes)
        return Content(images, labels, shards[0].names, notes.lines())

    def _opened(self, path: Path, use: Callable[[Any], Result]) -> Result:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # Opened by Python and not by Arrow, so that an audit hook sees which files are read.
            with path.open("rb") as opened:
                return use(pq.ParquetFile(opened))
        # What Arrow raises of a damaged file depends on the byte that is wrong.
        except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
            if isinstance(error, OSError) and error.filename:
                raise
            raise DataError(f"{path} is a damaged Parquet file: {error}") from error

    def _shard(self, file: Any, path: Path, notes: Notes) -> _Shard:
        schema = file.schema_arrow
        image, label = (_column(wanted, schema.names, path, notes) for wanted in (self.images, self.labels))
        table = file.read(columns=[image, label])
        names = _class_names(schema, label)
        return _Shard(_images(table.column(image), image, path), _labels(table.column(label), label, path), names)


class _Shard(NamedTuple):
    images: Any
    labels: np.ndarray
    names: tuple[str, ...]


def _check_shards(paths: list[Path]) -> None:
    """Refuse shards, numbered as Hugging Face does, of which one is missing, or there twice.

    Raises:
        DataError: names them.
    """
    found: dict[tuple[str, int], dict[int, Path]] = {}
    for path in paths:
        if (match := _SHARD.match(path.name)) is None:
            continue
        prefix, number, total = match[1], int(match[2]), int(match[3])
        if number in (shards := found.setdefault((prefix, total), {})):
            names = f"{shards[number].name} and {path.name}"
            raise DataError(f"{path.parent}: {names} are the same shard, so its images would be read twice: remove one")
        shards[number] = path
    for (prefix, total), shards in found.items():
        if other := next((count for name, count in found if name == prefix and count != total), None):
            raise DataError(
                f"{paths[0].parent}: {prefix}-*.parquet are shards of {total} and of {other}, so images would be read "
                "twice: remove the older ones"
            )
        if len(shards) < total:
            missing = next(number for number in range(total) if number not in shards)
            raise DataError(
                f"{paths[0].parent}: {len(shards)} of {total} shards {prefix}-*.parquet are there; number {missing} "
                "is missing: download it, or rename the shards if the others are to be used alone"
            )


def _unused(files: tuple[Path, ...]) -> Notes:
    notes = Notes()
    for other in sorted(set(files[0].parent.glob("*.parquet")) - set(files)):
        notes.add("file", "not used, of another split by the name", other.name)
    return notes


def _labels(column: Any, name: str, path: Path) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not pa.types.is_integer(column.type) and not pa.types.is_boolean(column.type):
        raise DataError(
            f"{path}: column {name!r} is {_short(column.type)}, not integers; number the classes from 0, and write the "
            "numbers to a column that `label` names"
        )
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise DataError(f"{path}: {column.null_count} rows have no label, the first is row {row}")
    try:
        labels: np.ndarray = column.cast(pa.int64()).to_numpy().astype("int64")
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: column {name!r} has labels beyond 64 bits: {error}") from error
    if len(labels) and labels.min() < 0:
        raise DataError(
            f"{path}, row {labels.argmin()}: label {labels.min()}; labels must be 0 or more "
            "(-1 usually means that there is none: remove these rows)"
        )
    return labels


def _images(column: Any, name: str, path: Path) -> Any:
    """Return the column of encoded images, in a struct with `bytes` or as they are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        column = pc.struct_field(column, "bytes")
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    if not any(check(column.type) for check in kinds):
        raise DataError(f"{path}: column {name!r} is {_short(column.type)}, not a struct with `bytes`, or binary")
    return column


def _short(kind: Any) -> str:
    text = str(kind)
    return text if len(text) < 80 else f"{text[:77]}..."


def _class_names(schema: Any, label: str) -> tuple[str, ...]:
    """Return the names of the classes that Hugging Face's libraries write into the metadata; without them, none."""
    try:
        content = json.loads((schema.metadata or {})[b"huggingface"])
        names = content["info"]["features"][label]["names"]
        return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()


def _column(wanted: tuple[str, ...], names: list[str], path: Path, notes: Notes) -> str:
    there = [name for name in wanted if name in names]
    if not there:
        hint = nearest(wanted[0], names)
        raise DataError(f"{path} has no column {' or '.join(map(repr, wanted))}, only {', '.join(names)}{hint}")
    if names.count(there[0]) > 1:
        raise DataError(f"{path} has {names.count(there[0])} columns {there[0]!r}; keep one")
    for name in there[1:]:
        notes.add("column", f"not read, as {there[0]} is", name)
    return there[0]


def _encoded(images: Any, path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    row = 0
    for chunk in images.chunks:
        for content in chunk:
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

    def unused_files(self) -> tuple[str, ...]:
        return _unused(self.training_files()).lines()

    def layouts(self) -> tuple[Layout, ...]:
        usual = ParquetLayout()
        images = (self.image,) if self.image else usual.images
        labels = (self.label,) if self.label else usual.labels
        return (ParquetLayout(images, labels, self.channels, self.size),)
