"""The tables of a page, and what of them can be copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.results.exporters.base import Readable, one_line

MOST_COPIED = 500
"""Rows of the largest table that is also there as text to copy."""
_LABELS = {"csv": "CSV", "markdown": "Markdown", "latex": "LaTeX"}


@dataclass(frozen=True)
class Table:
    """A table: cells as text, whether columns hold numbers, the point of each row, and the copies that there are."""

    name: str
    headings: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: Sequence[tuple[str, ...]]
    points: Sequence[str | None]
    caption: str = ""
    copies: tuple[tuple[str, str], ...] = ()


def copied(what: str, text: Callable[[str], str], rows: int) -> dict[str, str]:
    """Return a table as `text` gives it in each format that can be copied, by name and format.

    There is none of a table that is empty or too long.
    """
    if not 0 < rows <= MOST_COPIED:
        return {}
    return {f"{what}-{kind}": text(kind) for kind in _LABELS}


def table_of(what: str, shown: Readable, copies: dict[str, str], *, points: bool) -> Table:
    """Return a table of an exporter; with `points` its first column is the ids of points."""
    rows = [tuple(one_line(cell) for cell in row) for row in shown.rows]
    ids = [row[0] if points else None for row in rows]
    labels = tuple((key, _LABELS[key.removeprefix(f"{what}-")]) for key in copies)
    return Table(what, shown.headings, shown.numeric, rows, ids, shown.caption, labels)
