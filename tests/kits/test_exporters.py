"""Every registered exporter, by its kit, and what each format promises beyond it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pyarrow import parquet

from search.results.exporters import EXPORTERS, Exporter, OutputError, What, export, format_of, render
from search.results.exporters.base import one_line
from search.results.exporters.csv import cell
from search.results.exporters.latex import escape as latex_escape
from search.results.exporters.markdown import escape as markdown_escape
from search.results.study import Study
from search.results.table import PointRow, TrialRow, point_rows, table, trial_rows
from search.space.parameters import PARAMETERS
from search.testing.exporters import HOSTILE, ExporterKit, hostile_table
from tests.search import factories

SPEC = factories.study_spec()
FORMATS = sorted(EXPORTERS)


def hostile_tables() -> list[tuple[str, pa.Table]]:
    """A point table and a trial table with every hostile text in every column of text."""
    points, failed = [], []
    for number, text in enumerate(HOSTILE):
        issued = factories.trial(number, study=text).model_copy(
            update={
                "params": dict.fromkeys(SPEC.space, text),
                "spec": {"model": text, "data": text, "recipe": text},
            }
        )
        point = factories.point(attack=text, norm=text, eps_text=text, split=text, flags=(text, text), device=text)
        points.append((issued, factories.outcome(number, [point])))
        failed.append((issued, factories.outcome(number, failure=factories.failure(text or "bug", text))))
    space = SPEC.space
    return [
        ("points", table(PointRow, point_rows(SPEC, points), space)),
        ("trials", table(TrialRow, trial_rows(failed), space)),
    ]


TABLES = dict(hostile_tables())


def exporter(format: str) -> Exporter:
    return EXPORTERS.parse(format)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    records = factories.make_study(tmp_path_factory.mktemp("kit") / "study", 12)
    return Study(records)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(factories.make_study(tmp_path_factory.mktemp("kit") / "study", 0))


class TestExporters(ExporterKit):
    @pytest.fixture(params=FORMATS)
    def exporter(self, request: pytest.FixtureRequest) -> Exporter:
        return exporter(request.param)

    @pytest.fixture
    def count_rows(self, exporter: Exporter) -> Callable[[bytes], int]:
        return partial(rows_of, exporter.kind)


@pytest.mark.parametrize("what", ["front", "points", "trials"])
@pytest.mark.parametrize("format", FORMATS)
class TestEveryFormat:
    def test_same_study_gives_the_same_file(self, study: Study, what: str, format: str) -> None:
        assert render(study, what, format) == render(study, what, format) != b""

    def test_file_is_what_was_rendered_and_the_only_one(
        self, study: Study, what: str, format: str, tmp_path: Path
    ) -> None:
        target = tmp_path / f"x{EXPORTERS[format].suffix}"
        target.write_bytes(b"older")
        assert export(study, what, format, target) == target
        assert target.read_bytes() == render(study, what, format)
        assert list(tmp_path.iterdir()) == [target]

    def test_failed_write_leaves_the_older_file(
        self, study: Study, what: str, format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "x"
        target.write_bytes(b"older")

        def fail(*_: object) -> None:
            raise OSError(5, "broken")

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(Exception, match="broken"):
            export(study, what, format, target)
        assert target.read_bytes() == b"older"
        assert list(tmp_path.iterdir()) == [target]

    def test_empty_study_is_a_table_without_rows(self, empty: Study, what: str, format: str) -> None:
        assert rows_of(format, render(empty, what, format)) == 0

    def test_every_row_is_exported(self, study: Study, what: str, format: str) -> None:
        assert rows_of(format, render(study, what, format)) == study.table(what).num_rows > 0

    def test_stdout_takes_text_and_refuses_the_rest(
        self, study: Study, what: str, format: str, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        if EXPORTERS[format].text:
            assert export(study, what, format, None) is None
            assert capfdbinary.readouterr().out == render(study, what, format)
        else:
            with pytest.raises(OutputError, match="--output"):
                export(study, what, format, None)


def rows_of(format: str, content: bytes) -> int:
    """Count the rows of a file; a new text format adds its line here."""
    if format == "parquet":
        return int(parquet.read_table(io.BytesIO(content)).num_rows)
    text = content.decode()
    counts = {
        "csv": lambda: len(list(csv.reader(io.StringIO(text)))) - 1,
        "json": lambda: len(json.loads(text)),
        "markdown": lambda: len(text.splitlines()) - 4,
        "html": lambda: text.count("<tr>") - 1,
        "latex": lambda: text.count(r" \\" + "\n") - 1,
    }
    return counts[format]()


@pytest.mark.parametrize("what", sorted(TABLES))
@pytest.mark.parametrize("format", FORMATS)
def test_hostile_text_neither_breaks_rows_nor_the_encoding(format: str, what: str) -> None:
    content = exporter(format).render(TABLES[what], what=what, study=HOSTILE[9])
    assert rows_of(format, content) == len(HOSTILE)
    if EXPORTERS[format].text:
        content.decode("utf-8")


@pytest.mark.parametrize("format", FORMATS)
def test_suffixes_differ_and_the_kind_is_the_name(format: str) -> None:
    assert exporter(format).kind == format
    assert EXPORTERS[format].suffix.startswith(".")
    assert len({EXPORTERS[name].suffix for name in FORMATS}) == len(FORMATS)


def test_unknown_format_names_the_nearest(study: Study) -> None:
    with pytest.raises(OutputError, match=r"allowed: .*did you mean 'parquet'"):
        render(study, "front", "parqet")


def test_parquet_round_trips_schema_and_values(study: Study, tmp_path: Path) -> None:
    for what, given_ in [("front", study.table("front")), ("trials", study.table("trials")), *TABLES.items()]:
        target = tmp_path / "x.parquet"
        target.write_bytes(exporter("parquet").render(given_, what=what, study="s"))
        back = parquet.read_table(target)
        assert back.schema.equals(given_.schema, check_metadata=True)
        assert back.equals(given_)


def test_json_and_csv_read_back_equal(study: Study) -> None:
    rows = study.table("points").to_pylist()
    assert json.loads(render(study, "points", "json")) == rows
    found = list(csv.DictReader(io.StringIO(render(study, "points", "csv").decode())))
    for row, text in zip(rows, found, strict=True):
        assert list(text) == list(row)
        assert float(text["robust_accuracy"]) == row["robust_accuracy"]
        assert float(text["param.recipe.train.eps"]) == row["param.recipe.train.eps"]
        assert int(text["nonzero"]) == row["nonzero"]
        assert text["on_front"] == str(row["on_front"]).lower()
        assert text["macs_dense"] == ""
        assert text["flags"] == ";".join(row["flags"])


def test_csv_has_no_cell_that_a_spreadsheet_runs() -> None:
    for what, hostile in TABLES.items():
        for row in csv.reader(io.StringIO(exporter("csv").render(hostile, what=what, study="s").decode(), newline="")):
            assert not [c for c in row if c.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


@pytest.mark.slow
@given(st.text(max_size=20))
def test_csv_protects_all_but_plain_numbers(text: str) -> None:
    shown = cell(text)
    assert shown in (text, f"'{text}")
    if shown.startswith(("=", "+", "-", "@", "\t", "\r")):
        float(shown)


@pytest.mark.parametrize("text", ["-5", "+3", "-0.25", "1e-4", "-1e-4"])
def test_csv_leaves_numbers_alone_and_marks_text_that_looks_like_one(text: str) -> None:
    value = json.loads(text.removeprefix("+"))
    assert cell(value) == repr(value)
    assert cell(text) == f"'{text}"


LOOK_ALIKES = st.sampled_from(
    [
        "8/255",
        "0.10",
        "0.1",
        "007",
        "1e5",
        "12e34",
        "0x1f",
        "1_000",
        "123",
        "nan",
        "NA",
        "N/A",
        "None",
        "null",
        "inf",
        "-inf",
        "Infinity",
        "true",
        "t",
        "yes",
        "2024-01-01",
        "1-2",
        "12:30",
        "28.11.2026",
        "2024-01-01T00:00:00+00:00",
        "epoch",
        "#x",
        "[1]",
        "{}",
        "it's",
        "'0.1",
        "'",
        "''",
        "=1",
        "/home",
        "١٢",
        "0.1.0",
        "",
        " a",
        "a ",
        "nan ",
    ]
)
CELLS = LOOK_ALIKES | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def _frames(path: Path) -> dict[str, list[dict[str, object]]]:
    """Read a file with the default options of each reader, missing values as None."""
    duckdb, pandas, polars = (pytest.importorskip(name) for name in ("duckdb", "pandas", "polars"))
    frame = pandas.read_csv(path)
    return {
        "pandas": frame.astype(object).where(frame.notna(), None).to_dict("records"),
        "polars": polars.read_csv(path).to_dicts(),
        "duckdb": duckdb.sql(f"select * from '{path}'").to_arrow_table().to_pylist(),
    }


def _checked_csv(rows: list[tuple[str, str, str | None]], directory: Path) -> None:
    space = {"p": PARAMETERS.parse({"kind": "categorical", "choices": ["a", "b"]})}
    found = []
    for number, (one, two, three) in enumerate(rows):
        trial = factories.trial(number, study=one).model_copy(update={"params": {"p": three}, "spec": {"model": two}})
        point = factories.point(number, attack=two, eps_text=one, device=two, flags=("x",))
        found.append((trial, factories.outcome(number, [point])))
    given = table(PointRow, point_rows(SPEC, found), space)
    assert json.loads(exporter("json").render(given, what="points", study="s")) == given.to_pylist()
    target = directory / "x.csv"
    target.write_bytes(exporter("csv").render(given, what="points", study="s"))
    wanted = [row | {"flags": "x"} for row in given.drop_columns(["started", "finished"]).to_pylist()]
    for reader, frame in _frames(target).items():
        back = [{k: v.removeprefix("'") if isinstance(v, str) else v for k, v in row.items()} for row in frame]
        assert [{name: row[name] for name in wanted[0]} for row in back] == wanted, reader


@pytest.mark.slow
def test_csv_reads_back_equal_in_pandas_polars_and_duckdb(tmp_path: Path) -> None:
    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.tuples(CELLS, CELLS, st.none() | CELLS), min_size=1, max_size=5))
    def check(rows: list[tuple[str, str, str | None]]) -> None:
        _checked_csv(rows, tmp_path)

    check()
    for text in ("0.10", "123", "12e34", "nan", "t", "a\rb", "'", ""):  # a column of nothing else
        _checked_csv([(text, text, text)], tmp_path)


@settings(max_examples=200)
@given(st.text(alphabet=st.sampled_from("\\&%$#_{}~^<>|\"`'[]ab \n\t\x00é"), max_size=30))
def test_latex_escape_leaves_no_special_character(text: str) -> None:
    shown = latex_escape(text)
    commands = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|textasciigrave)\{\}"
    shown = re.sub(r"(?<=[-',?!])\{\}(?=[-',\\])", "", shown.replace(r"\texttt{\char34}", "").replace(r"\'{e}", "é"))
    rest = re.sub(rf"{commands}|\\[&%$#_{{}}]|\{{[\[\]]\}}", "", shown)
    assert not set(rest) & set('\\&%$#_{}~^<>|"`\n\t\x00[]')
    assert rest == re.sub(r"[\\&%$#_{}~^<>|\"`\[\]]", "", one_line(text).replace("\\x00", "x00"))


@pytest.mark.parametrize(
    ("text", "typeset"),
    [
        ('--allow-change: "nets"', r"-{}-allow-change: \texttt{\char34}nets\texttt{\char34}"),
        ("α→β ≤ 3", r"\ensuremath{\alpha}\ensuremath{\to}\ensuremath{\beta} \ensuremath{\leq} 3"),
        ("Ωμέλα Δ", r"\ensuremath{\Omega}\ensuremath{\mu}\textbackslash{}u03ad\ensuremath{\lambda}"),
        ("/home/データ.png", r"/home/\textbackslash{}u30c7\textbackslash{}u30fc\textbackslash{}u30bf.png"),
        ("naïve Łódź", r"na\"{i}ve \L{}\'{o}d\'{z}"),
        ("''?`", r"'{}'?{}\textasciigrave{}"),
        ("a\u202eb\u200b", r"a\textbackslash{}u202eb\textbackslash{}u200b"),
    ],
)
def test_latex_typesets_what_pdflatex_has_and_escapes_the_rest(text: str, typeset: str) -> None:
    assert latex_escape(text).startswith(typeset)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["", r"\usepackage[T1]{fontenc}"])
@pytest.mark.parametrize("what", ["front", "trials"])
def test_latex_compiles_within_the_line(study: Study, encoding: str, what: What, tmp_path: Path) -> None:
    pdflatex = shutil.which("pdflatex")
    if pdflatex is None:
        pytest.skip("pdflatex is not installed")
    rows = hostile_table(what) if what == "trials" else study.table(what)
    content = exporter("latex").render(rows, what=what, study="a-study")
    (tmp_path / "table.tex").write_bytes(content)
    (needed,) = re.findall(r"% needs (.*)", content.decode())
    document = rf"\documentclass{{article}}{needed}{encoding}\begin{{document}}\input{{table}}\end{{document}}"
    (tmp_path / "document.tex").write_text(document)
    command = [pdflatex, "-interaction=nonstopmode", "document.tex"]
    log = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=100).stdout.decode(errors="replace")
    assert not re.findall("^!.*|^Overfull.*", log, re.MULTILINE)
    assert (tmp_path / "document.pdf").exists()


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from('\\|`*_[]()<>&"~$#ab1,. \n\r\x00é'), max_size=30))
@example("[1, 2](a) [1.5, 2] r_inf _a_ &amp; & C&W; &copy &#49; &#x31; <b> > <a@b.c>")
def test_markdown_shows_escaped_text_as_it_is(text: str) -> None:
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    (line,) = reader.parseInline(markdown_escape(text))
    parts = line.children or []
    assert {part.type for part in parts} <= {"text", "text_special"}
    assert "".join(part.content for part in parts).strip() == one_line(text).strip()
    assert not re.search(r"(?<!\\)(?:\\\\)*[|$#]", markdown_escape(text)), "what readers of GitHub's kind take for more"


def test_latex_structure(study: Study) -> None:
    text = render(study, "front", "latex").decode()
    begun = re.findall(r"\\begin\{(\w+)\}", text)
    assert (begun, re.findall(r"\\end\{(\w+)\}", text)) == (["table", "tabular"], ["tabular", "table"])
    assert [text.count(rf"\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 1, 1]
    assert text.count("{") == text.count("}")
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
    assert columns is not None
    body = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(columns[1]) - 1}


@pytest.mark.parametrize("format", ["latex", "markdown"])
def test_caption_says_what_the_numbers_are(study: Study, format: str) -> None:
    text = render(study, "front", format).decode().replace("\\", "")
    for said in (
        "PGD-20",
        "0.1",
        "360 examples",
        "search estimates on the validation split",
        "1 seed;",
        "Wilson",
        "three_stage",
    ):
        assert said in text
    norm = "ell_infty" if format == "latex" else "l_inf"
    assert norm in text


@pytest.mark.parametrize("format", ["latex", "markdown"])
def test_empty_front_is_said(empty: Study, format: str) -> None:
    assert "no point so far" in render(empty, "front", format).decode()


def test_caption_never_claims_one_value_where_there_are_two(tmp_path: Path) -> None:
    records = factories.make_study(tmp_path / "study", 0)
    for number, (seed, examples) in enumerate([(0, 360), (1, 100)]):
        records.issue(factories.trial(number, seed=seed))
        own = factories.point(examples=examples, sparsity=0.5 + number / 10, robust_accuracy=0.7 - number / 10)
        records.write_outcome(factories.outcome(number, [own]))
    text = render(Study(records), "front", "markdown").decode()
    assert "n = 100, 360 examples" in text
    assert "2 seeds" in text
    assert re.search(r"\| +n \|", text)


def test_sparsity_is_never_rounded_up_to_all() -> None:
    from search.results.exporters.base import percent_sparsity

    assert [percent_sparsity(s) for s in (0.0, 0.5, 0.9996, 0.99996, 0.999996)] == [
        "0.0",
        "50.0",
        "99.96",
        "99.996",
        "99.9996",
    ]


SEVERAL = {
    "recipe.kind": {"kind": "categorical", "choices": ["three_stage", "imp", "gradual"]},
    "recipe.finetune_epochs": {"kind": "categorical", "choices": [5], "when": {"recipe.kind": "three_stage"}},
    "recipe.rate": {"kind": "categorical", "choices": [0.2, 0.5], "when": {"recipe.kind": "imp"}},
    "recipe.every": {"kind": "categorical", "choices": [10, 20], "when": {"recipe.kind": "gradual"}},
}


@pytest.mark.parametrize("format", ["latex", "markdown"])
def test_a_searched_recipe_stands_once_and_parameters_of_absent_ones_nowhere(format: str) -> None:
    spec = factories.study_spec(space=SEVERAL)
    given = [{"recipe.kind": "three_stage", "recipe.finetune_epochs": 5}, {"recipe.kind": "imp", "recipe.rate": 0.2}]
    trials = [
        (factories.trial(number, spec, params=params), factories.outcome(number)) for number, params in enumerate(given)
    ]
    rows = table(PointRow, point_rows(spec, trials), spec.space)
    heading = next(
        line
        for line in exporter(format).render(rows, what="points", study="s").decode().splitlines()
        if "nonzero" in line
    )
    cells = [cell.strip(" |\\") for cell in re.split(r"[|&]", heading.replace("\\_", "_"))]
    assert [cell for cell in cells if "recipe" in cell] == ["recipe.kind", "recipe.finetune_epochs", "recipe.rate"]


@pytest.mark.parametrize(
    ("name", "given", "kind"),
    [
        (None, None, "csv"),
        (None, "latex", "latex"),
        ("x", None, "csv"),
        ("x.TEX", None, "latex"),
        ("x.md", "markdown", "markdown"),
        ("x.txt", "markdown", "markdown"),
        ("x", "parquet", "parquet"),
    ],
)
def test_the_format_is_the_given_one_or_that_of_the_name(name: str | None, given: str | None, kind: str) -> None:
    assert format_of(Path(name) if name else None, given) == kind


@pytest.mark.parametrize(
    ("name", "given"), [("x.xlsx", None), ("x.txt", None), ("x.xlsx", "csv"), ("x.csv", "json"), ("x.pdf", "latex")]
)
def test_a_name_that_says_another_format_is_refused(name: str, given: str | None) -> None:
    with pytest.raises(
        OutputError, match=rf"{name}: .*(allowed: \.csv|ends in \.{'tex' if given == 'latex' else given})"
    ):
        format_of(Path(name), given)
