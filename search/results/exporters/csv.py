"""Comma-separated values, which readers take as they were written and spreadsheets do not run."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from search.results.exporters.base import Exporter

if TYPE_CHECKING:
    import pyarrow as pa

_TIMES = frozenset({"issued", "started", "finished"})
_FRACTION = re.compile(r"[0-9]+/[0-9]+")
_READ_AS_OTHER = frozenset(
    [
        "nan",
        "na",
        "n/a",
        "null",
        "none",
        "nil",
        "nat",
        "inf",
        "infinity",
        "true",
        "false",
        "t",
        "f",
        "yes",
        "no",
        "y",
        "n",
        "on",
        "off",
        "epoch",
        "now",
        "today",
    ]
)
"""Words that pandas, polars or duckdb take for a missing value, a number, a truth value or a time."""


class Csv(Exporter):
    """CSV in UTF-8 with a heading line.

    Text that a reader would take for something else, or a spreadsheet for a formula, gets an apostrophe in front, and
    so does the empty text; flags are joined by `;`; an unknown value is an empty cell; numbers are written so that
    they read back equal.
    """

    kind: Literal["csv"] = "csv"
    suffix: ClassVar[str] = ".csv"

    def render(self, table: pa.Table, *, what: str, study: str) -> bytes:
        text = io.StringIO()
        text.write(_line([_heading(name) for name in table.column_names]))
        for row in table.to_pylist():
            cells = [value if name in _TIMES and value else cell(value) for name, value in row.items()]
            text.write(_line(cells))
        return text.getvalue().encode("utf-8")


def _line(cells: list[str]) -> str:
    return ",".join(map(_quoted, cells)) + "\n"


def _heading(name: str) -> str:
    """Return the name of a column, which readers take as it is written; of a parameter, it may begin like a formula."""
    return name if name.isidentifier() else cell(name)


def _quoted(text: str) -> str:
    """Quote where RFC 4180 asks for it. The csv module would leave a carriage return bare, which ends a row."""
    return '"' + text.replace('"', '""') + '"' if re.search('[",\r\n]', text) else text


def cell(value: Any) -> str:
    """Return a value as a cell. Text stays text for every reader, and is not a formula (OWASP, CSV Injection)."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return marked(";".join(value)) if value else ""
    return marked(str(value))


def marked(text: str) -> str:
    """Return text with an apostrophe in front, unless it begins with a letter and no reader takes it for anything else.

    `text.removeprefix("'")` is the reverse. Text that begins with an apostrophe gets one more.
    """
    plain = text[:1].isalpha() and text.strip().casefold() not in _READ_AS_OTHER
    return text if plain or _FRACTION.fullmatch(text) else f"'{text}"
