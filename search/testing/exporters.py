"""What every exporter must do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from search.results.exporters.base import Exporter
from search.results.table import PointRow, TrialRow, columns

HOSTILE = [
    '=HYPERLINK("http://x","y")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r\n=1",
    "a|b\n| c |",
    "<script>alert(1)</script>",
    "**bold** _x_ `code` [link](javascript:alert(1)) ![i](http://x)",
    r"\input{/etc/passwd} \write18{x} % & $ # _ { } ~ ^",
    r"\\",
    "\x00\x1b[31m\x85\u2028",
    "naïve ∞ ε 漢字 🙂",
    '/home/u/データ/花.png α→β ≤ 3 --allow-change: "nets"',
    "\u202egnp.exe\u2066 \u200b\ufeff",
    "a/very_long/path-that.has=no;blanks/" + "x" * 90,
    "'; DROP TABLE x; --",
    ",",
    '"',
    "",
]
"""Texts that a spreadsheet would run, or that are markup, commands or control characters somewhere."""

TABLES: dict[str, type[PointRow] | type[TrialRow]] = {"front": PointRow, "points": PointRow, "trials": TrialRow}

_CELLS: dict[str, Any] = {"bool": True, "int64": 360, "double": 0.75}


def hostile_table(what: str) -> pa.Table:
    """Return a table with a row for each hostile text, in every column of text."""
    fields = [*columns(TABLES[what]), pa.field("param.recipe.rewind", pa.string())]

    def cells(field: pa.Field) -> list[Any]:
        listed = pa.types.is_list(field.type)
        return [[text, text] if listed else _CELLS.get(str(field.type), text) for text in HOSTILE]

    return pa.Table.from_arrays([pa.array(cells(field), field.type) for field in fields], schema=pa.schema(fields))


class ExporterKit:
    """Tests of an exporter."""

    @pytest.fixture
    def exporter(self) -> Exporter:
        """Return the exporter to test."""
        raise NotImplementedError

    @pytest.fixture
    def count_rows(self) -> Callable[[bytes], int]:
        """Return a function that counts the rows in the content of a file, without headings."""
        raise NotImplementedError

    def test_the_suffix_begins_with_a_dot(self, exporter: Exporter) -> None:
        assert exporter.suffix.startswith(".")

    @pytest.mark.parametrize("what", TABLES)
    def test_a_table_gives_the_same_file_with_every_row(
        self, exporter: Exporter, count_rows: Callable[[bytes], int], what: str
    ) -> None:
        """Hostile text neither breaks rows nor the encoding."""
        table = hostile_table(what)
        content = exporter.render(table, what=what, study=HOSTILE[9])
        assert content == exporter.render(table, what=what, study=HOSTILE[9])
        assert count_rows(content) == len(HOSTILE)
        if exporter.text:
            content.decode("utf-8")

    @pytest.mark.parametrize("what", TABLES)
    def test_an_empty_table_has_headings_and_no_row(
        self, exporter: Exporter, count_rows: Callable[[bytes], int], what: str
    ) -> None:
        content = exporter.render(hostile_table(what).slice(0, 0), what=what, study="empty")
        assert content
        assert count_rows(content) == 0
