from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from pyarrow import parquet

from search.results.compare.comparison import Comparison, compare
from search.results.compare.facts import plain
from search.results.compare.groups import Group
from search.results.compare.output import ALLOWED, write
from search.results.compare.plot import draw
from search.results.exporters.output import OutputError
from search.testing.exporters import HOSTILE
from tests.search.results.compare.made import made, standing

HOSTILE_LABEL = "_" + HOSTILE[9] + " | <b> $\\frac$"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    root = tmp_path_factory.mktemp("studies")
    one = [made(root, f"one-{n}", [(0.4, standing(150 + n)), (0.9, standing(100 - n))]) for n in range(2)]
    other = made(root, "other", [(0.6, standing(120))])
    return compare([Group(HOSTILE_LABEL, tuple(one)), Group("other", (other,))])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ALLOWED)
def test_every_format_is_written_twice_the_same(found: Comparison, suffix: str, tmp_path: Path) -> None:
    target = tmp_path / f"x{suffix}"
    assert write(found, target) == target
    content = target.read_bytes()
    assert content != b""
    if suffix != ".png":  # It is drawn by the same code, and takes the longest.
        assert write(found, target).read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_tables_hold_the_ranges_exactly(found: Comparison, tmp_path: Path) -> None:
    table = parquet.read_table(write(found, tmp_path / "x.parquet")).to_pylist()
    (pair,) = found.pairs
    assert [(row["sparsity_low"], row["one_accuracy"], row["ahead"]) for row in table] == [
        (each.low, each.one, each.ahead) for each in pair.ranges
    ]
    assert json.loads(write(found, tmp_path / "x.json").read_text()) == table
    rows = list(csv.DictReader(io.StringIO(write(found, tmp_path / "x.csv").read_text())))
    assert [row["difference_low"] for row in rows] == [
        repr(each.difference.low) if each.difference else "" for each in pair.ranges
    ]
    json.dumps(plain(found), allow_nan=False)


def test_labels_cannot_break_the_text(found: Comparison, tmp_path: Path) -> None:
    markdown = write(found, tmp_path / "x.md").read_text()
    assert "<b>" not in markdown
    assert r"\input" not in markdown.replace(r"\\input", "")
    assert r"\input" not in write(found, tmp_path / "x.tex").read_text()


@pytest.mark.parametrize("name", ["x", "x.jpeg"])
def test_other_suffixes_and_records_are_refused(found: Comparison, name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"must end in \.png, \.pdf, \.svg, \.csv"):
        write(found, tmp_path / name)
    with pytest.raises(OutputError, match="inside the study's directory"):
        write(found, found.folders[-1] / "x.csv")


def test_picture_has_a_step_for_each_search_and_their_difference(found: Comparison) -> None:
    figure = draw(found)
    upper, lower = figure.axes
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label.rpartition(": ")[2] for label in labels] == [
        "median of 2, 25 to 75 % attain the band",
        "front, 95 % interval",
    ]
    lines = [patch.get_data() for patch in upper.patches if not patch.get_fill()]
    assert 100 * 0.6 in lines[1].values
    (difference,) = (patch.get_data() for patch in lower.patches if not patch.get_fill())
    one, other = (group.value for group in found.attained)
    assert difference.values[0] == pytest.approx(100 * (other[0] - one[0]))
