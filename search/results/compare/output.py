"""Write a comparison to a file: a picture, or its tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from search.results.compare.comparison import Comparison
from search.results.compare.facts import readables, table
from search.results.compare.plot import draw
from search.results.exporters import latex, markdown
from search.results.exporters.base import Exporter
from search.results.exporters.csv import Csv
from search.results.exporters.json import Json
from search.results.exporters.output import OutputError, check_outside, write_output
from search.results.exporters.parquet import Parquet
from search.results.plot import FORMATS, picture

_TABLES: dict[str, Exporter] = {exporter.suffix: exporter for exporter in (Csv(), Parquet(), Json())}
_READABLE: dict[str, Callable[..., bytes]] = {".md": markdown.typeset, ".tex": latex.typeset}
ALLOWED = (*(f".{kind}" for kind in FORMATS), *_TABLES, *_READABLE)


def check(output: Path) -> None:
    """Refuse a name that tells no format, before any work.

    Raises:
        OutputError: its suffix is none of `ALLOWED`.
    """
    if output.suffix.lower() not in ALLOWED:
        raise OutputError(f"cannot tell from the name {output} what to write; it must end in {', '.join(ALLOWED)}")


def write(comparison: Comparison, output: Path) -> Path:
    """Write a comparison atomically, in no study's directory.

    Raises:
        OutputError: another suffix, or the output cannot be written there.
        StorageError: the disk is full or failing.
    """
    check(output)
    suffix = output.suffix.lower()
    if suffix in _TABLES:
        content = _TABLES[suffix].render(table(comparison), what="ranges", study="comparison")
    elif suffix in _READABLE:
        content = b"\n".join(_READABLE[suffix](each) for each in readables(comparison))
    else:
        content = picture(draw(comparison), suffix.removeprefix("."))
    for folder in comparison.folders:
        check_outside(output, folder)
    return write_output(content, output)
