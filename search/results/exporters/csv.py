"""Comma-separated values, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from search.results.exporters.base import Exporter

if TYPE_CHECKING:
    import pyarrow as pa

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


class Csv(Exporter):
    """CSV in UTF-8 with a heading line.

    Text that a spreadsheet would take for a formula gets an apostrophe in front; flags are joined
    by `;`; an unknown value is an empty cell; numbers are written so that they read back equal.
    """

    kind: Literal["csv"] = "csv"
    suffix: ClassVar[str] = ".csv"

    def render(self, table: pa.Table, *, what: str, study: str) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([cell(name) for name in table.column_names])
        for row in table.to_pylist():
            writer.writerow([cell(value) for value in row.values()])
        return text.getvalue().encode("utf-8")


def cell(value: Any) -> str:
    """Return a value as text that no spreadsheet runs as a formula. Source: OWASP, CSV Injection."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    text = ";".join(value) if isinstance(value, list) else str(value)
    if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text
