"""The table of a paper beside what a study measured: every table is filled from a made-up study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from search.results import exporters
from search.results.exporters.base import readable
from search.results.paper.cells import filled, paper_table, points
from search.results.study import Study
from search.study import reproduction
from search.study.spec import Reproduces
from tests.search.confirmations import network
from tests.search.factories import make_study
from tests.search.results.paper.made import ATTACKED, MNIST, Made, inverted_u
from trainables.core.errors import SpecError
from trainables.store import confirmations

TABLES = [(paper, table) for paper in reproduction.names() for table in reproduction.paper(paper).tables]


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_every_cell_of_every_table_is_filled_by_its_own_networks(paper: str, table: str, tmp_path: Path) -> None:
    made = Made(tmp_path, Reproduces(paper=paper, table=table))
    cells = filled(made.study())
    apart = [cell for cell in cells if "test split" in cell.column]
    assert all(len(cell.values) == 2 for cell in cells if cell not in apart)
    assert all(not cell.values for cell in apart), "these wait for `confirm`"
    assert all(cell.seeds == (0, 1) for cell in cells if cell.values)


def test_numbers_stand_beside_the_papers_with_means_and_intervals_over_seeds(tmp_path: Path) -> None:
    made = Made(tmp_path, MNIST, seeds=3)
    made.robust = inverted_u
    study = made.study()
    rows = {(row["row"], row["column"]): row for row in paper_table(study).to_pylist()}
    assert len(rows) == 60
    assert sum(row["paper"] is not None for row in rows.values()) == 48
    dense = rows["100.0 %", ATTACKED]
    assert (dense["paper"], dense["paper_sd"]) == pytest.approx((0.4532, 0.002))
    assert dense["mean"] == pytest.approx(0.455)
    assert dense["sd"] == pytest.approx(0.005)
    assert dense["low"] < 0.455 - 0.005 * 4.303 / 3**0.5 < dense["mean"] < dense["high"], "Student's, and the images'"
    assert (dense["seeds"], dense["accuracy"], len(dense["points"])) == (3, True, 3)
    assert set(dense["points"]) <= set(points(study))
    assert study.points()[0].epoch == 30
    within = {row.point: row.epoch for row in study.points()}
    assert {within[name] for row in rows.values() for name in row["points"]} == {30}, "the paper's table is of epoch 30"


def test_the_table_is_read_in_the_papers_shape(tmp_path: Path) -> None:
    made = Made(tmp_path, MNIST, seeds=3)
    made.robust = inverted_u
    lines = exporters.text(made.study(), "paper", "markdown").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[0] == ["", "", "100.0 %", "51.3 %", "16.9 %", "8.7 %", "3.6 %", "1.8 %"]
    (at,) = [number for number, row in enumerate(rows) if row[0] == ATTACKED]
    assert rows[at][:4] == [ATTACKED, "paper", "45.3 ± 0.2", "60.1 ± 1.0"]
    assert rows[at + 1][:4] == ["", "ours", "45.5 ± 0.5", "60.5 ± 0.5"]
    assert rows[at + 2][:2] == ["", "95 %"]
    assert rows[at + 2][2].startswith("[4")
    assert len({len(line) for line in lines if line.startswith("|")}) == 1, "a terminal shows columns"
    assert "&amp;" not in lines[0]


def test_numbers_of_one_quantity_have_equal_decimals() -> None:
    cells = [
        {"row": "dense", "column": "r_2", "mean": 1.6, "sd": 0.1698, "low": 1.18, "high": 1.999},
        {"row": "sparse", "column": "r_2", "mean": 0.0229, "sd": None, "low": -0.0001, "high": 0.085},
        {"row": "dense", "column": "r_inf", "mean": 0.5, "sd": 0.01, "low": 0.4, "high": 1.0, "accuracy": True},
        {"row": "sparse", "column": "r_inf", "mean": None, "sd": None, "low": None, "high": None, "accuracy": True},
        {"row": "dense", "column": "steps", "mean": 12345.6, "sd": 0.4, "low": None, "high": None},
    ]
    empty = {"accuracy": False, "paper": None, "paper_sd": None, "seeds": 3, "examples": None, "points": []}
    cells.append({"row": "sparse", "column": "steps", "mean": 0.0, "sd": None, "low": None, "high": None})
    shown = readable(pa.Table.from_pylist([empty | cell for cell in cells]), what="paper", study="short")
    assert list(shown.rows) == [
        ("r_2", "ours", "1.60 ± 0.17", "0.02"),
        ("", "95 %", "[1.18, 2.00]", "[0.00, 0.09]"),
        ("r_inf", "ours", "50.0 ± 1.0", ""),
        ("", "95 %", "[40.0, 100.0]", ""),
        ("steps", "ours", "12346 ± 0", "0"),
    ]


def test_a_shortened_study_is_measured_where_its_trainings_allow_it(tmp_path: Path) -> None:
    short = Made(tmp_path / "short", Reproduces(paper="cosentino2019", table="mnist", scale=0.05)).study()
    within = {row.point: row.epoch for row in short.points()}
    assert {within[name] for cell in filled(short) for name in cell.points} == {2}
    single = Made(tmp_path / "single", Reproduces(paper="cosentino2019", table="mnist", scale=0.01)).study()
    assert {row.epoch for row in single.points()} == {None}
    assert all(cell.values for cell in filled(single)), "the end stands for the middle of a single epoch"


@pytest.mark.parametrize("format_", ["markdown", "latex", "csv", "json", "html"])
@pytest.mark.parametrize("what", ["paper", "claims"])
def test_tables_of_papers_are_exported_as_all_others(tmp_path: Path, what: Any, format_: str) -> None:
    made = Made(tmp_path, MNIST)
    made.robust = inverted_u
    text = exporters.text(made.study(), what, format_)
    assert ("60.14" in text or "60.1" in text or "0.6014" in text) if what == "paper" else "cannot tell" in text
    if format_ in ("markdown", "latex", "html"):
        assert "Cosentino" in text


def test_other_studies_fill_no_table(tmp_path: Path) -> None:
    records = make_study(tmp_path)
    with pytest.raises(SpecError, match="fills no table of a paper"):
        paper_table(Study(records))


def test_a_confirmation_that_lacks_attacks_fills_no_cell(tmp_path: Path) -> None:
    """Without them the clean accuracy is left, which is no accuracy under AutoAttack."""
    study = Made(tmp_path, Reproduces(paper="piras2024", table="hydra"), seeds=2).study()
    for row in study.points():
        for result in network(row, row.seed):
            if row.seed == 1 or result.role == "clean":
                confirmations.write(study.records.storage, result)
    cells = [cell for cell in filled(study) if "test split" in cell.column]
    assert {cell.seeds for cell in cells} == {(1,)}
