"""Published rows in tables and files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from search.results.references import reference
from tests.search.command import run
from tests.search.factories import make_study, study_spec


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a study that rows match, and one that none does."""
    root = tmp_path_factory.mktemp("storage")
    field = {"data": {"kind": "cifar10", "validation": 360}, "model": "vgg16", "protocol": {"eps": "8/255"}}
    make_study(root / "field", 4, study_spec(name="field", **field), troubled=False)
    make_study(root / "digits", 4, study_spec(name="digits"), troubled=False)
    return root


def shown(storage: Path, *words: str) -> str:
    result = run(*words, "--reference", "piras2024", "--storage", storage)
    assert result.exit_code == 0
    assert result.stderr == ""
    return result.stdout


def test_front_lists_the_rows_with_their_source_and_remarks(storage: Path) -> None:
    text = shown(storage, "front", "field")
    (line,) = [line for line in text.splitlines() if line.startswith("FlyingBird") and " 90.0 " in line]
    assert line.split()[1:] == ["90.0", "43.95", "[42.98,", "44.92]", "76.72", "[75.88,", "77.54]"]
    assert "arXiv:2409.01249" in text
    assert "eps is 0.031 there and 8/255 here" in text
    found = json.loads(shown(storage, "front", "field", "--json"))["reference"]
    board = ("cifar10", "vgg16", "unstructured")
    wanted = [row for row in reference("piras2024").rows if (row.data, row.model, row.structure) == board]
    assert [row["method"] for row in found["rows"]] == [row.method for row in wanted]
    assert (found["reason"], found["eps"], found["split"]) == (None, 0.031, "test")


def test_files_for_machines_have_them_as_rows_of_their_own_tier(storage: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(shown(storage, "export", "field", "--what", "front"))))
    mine = list(csv.DictReader(io.StringIO(run("export", "field", "--what", "front", "--storage", storage).stdout)))
    published = [row for row in rows if row["tier"] == "reference"]
    assert rows[: len(mine)] == mine
    assert len(published) == len(rows) - len(mine) == 30
    harp = next(row for row in published if (row["recipe"], row["sparsity"]) == ("HARP", "0.95"))
    assert (harp["robust_accuracy"], harp["clean_accuracy"], harp["split"]) == ("0.4121", "0.8026", "test")
    assert (harp["study"], harp["point"], harp["trial"]) == ("piras2024", "", "")


@pytest.mark.parametrize("format", ["markdown", "latex"])
def test_files_for_people_have_them_as_a_second_table(format: str, storage: Path) -> None:
    text = shown(storage, "export", "field", "--what", "front", "--format", format)
    first, _, second = text.partition("Rows of the adversarial pruning benchmark")
    assert "HARP" not in first
    assert second.count("HARP") == 3
    assert "AutoAttack" in second


@pytest.mark.slow
@pytest.mark.parametrize("words", [["front"], ["export"], ["plot"]])
def test_where_nothing_matches_the_reason_stands_on_stderr(words: list[str], storage: Path, tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "front.png")] if words == ["plot"] else []
    result = run(*words, "digits", *output, "--reference", "piras2024", "--storage", storage)
    plain = run(*words, "digits", *output, "--storage", storage)
    assert (result.exit_code, result.stdout) == (0, plain.stdout)
    reason = "the study is on digits; the adversarial pruning benchmark has CIFAR-10 and SVHN"
    assert result.stderr == f"no row of piras2024 is shown: {reason}\n{plain.stderr}"


def test_a_page_has_one_table(storage: Path) -> None:
    words = ("export", "field", "--what", "front", "--format", "html", "--storage", storage)
    assert run(*words).stdout.count("</html>") == 1
    result = run(*words, "--reference", "piras2024")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give it to `robustsearch report`" in result.stderr


def test_trials_are_not_compared(storage: Path) -> None:
    result = run("export", "field", "--what", "trials", "--reference", "piras2024", "--storage", storage)
    assert result.exit_code == 2
    assert "--reference is for points" in result.stderr


def test_the_report_has_them_in_a_section_of_their_own(storage: Path, tmp_path: Path) -> None:
    for name, said in (("field", "Published networks beside those of the study"), ("digits", "the study is on digits")):
        plain, asked = tmp_path / f"{name}.html", tmp_path / f"{name}-field.html"
        assert run("report", name, "--output", plain, "--storage", storage).exit_code == 0
        result = run("report", name, "--output", asked, "--reference", "piras2024", "--storage", storage)
        assert result.exit_code == 0
        assert "Published results" not in plain.read_text()
        text = asked.read_text()
        assert '<section id="field">' in text
        assert said in text
        assert ("FlyingBird" in text) == (name == "field")
