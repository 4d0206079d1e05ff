"""What every exporter, and every tracker, must do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from search.results.exporters.base import Exporter
from search.results.exporters.output import OutputError
from search.results.exporters.runs import Row, Run, State
from search.results.exporters.tracker import Tracker
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


def hostile_runs() -> list[Run]:
    """Return a run for each hostile text, in every field of text that is free; names of parameters and metrics too."""
    states: tuple[State, ...] = ("complete", "stopped", "failed", "running", "waiting")
    return [
        Run(
            name=f"t{number}",
            study="hostile",
            state=states[number % len(states)],
            params={"recipe.kind": text, text: number, "recipe.rewind": None, "model.normalise": True},
            tags={"study": "hostile", "message": text, "flags": text, text: "x"},
            final={"robust_accuracy": 0.25, "sparsity": 0.5},
            rows=(
                Row("train", 1, 1000.0, {"loss": 2.5, "epoch": 1.0}),
                Row("point", 5000, 1001.0, {"robust_accuracy": 0.25, "sparsity": 0.5, f"metric.{text}": 1.0}),
            ),
            started=1000.0,
            finished=1002.5 if number % len(states) < 3 else None,
        )
        for number, text in enumerate(HOSTILE)
    ]


class TrackerKit:
    """Tests of a tracker."""

    @pytest.fixture
    def tracker(self) -> Tracker:
        """Return the tracker to test."""
        raise NotImplementedError

    @pytest.fixture
    def names(self) -> Callable[[Path], Iterable[str]]:
        """Return a function that reads the names of all runs in a directory."""
        raise NotImplementedError

    def test_a_missing_library_is_named_with_what_installs_it(
        self, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(type(tracker), "modules", ("no_such_library",))
        with pytest.raises(OutputError, match=rf"no_such_library, .*pip install 'robustsearch\[{tracker.extra}\]'"):
            tracker.check()

    def test_every_run_is_written_whatever_its_texts(
        self, tracker: Tracker, names: Callable[[Path], Iterable[str]], tmp_path: Path
    ) -> None:
        """The environment is as before, and nothing is written beside the directory."""
        tracker.check()
        runs, before = hostile_runs(), dict(os.environ)
        folder = tmp_path / "being-written"
        folder.mkdir()
        tracker.write(runs, folder, tmp_path / "output")
        assert dict(os.environ) == before
        assert list(tmp_path.iterdir()) == [folder]
        folder.rename(tmp_path / "output")
        assert sorted(names(tmp_path / "output")) == sorted(run.name for run in runs)
