from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.search.command import run
from tests.search.factories import make_study, study_spec


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("storage")
    for name, trials in (("long-1", 12), ("long-2", 16), ("short", 4)):
        make_study(root / name, trials, study_spec(name=name))
    make_study(root / "other", 4, study_spec(name="other", protocol={"eps": 0.2}))
    return root


def test_tables_say_which_search_is_ahead_where(storage: Path) -> None:
    result = run("compare", "long=long-*", "short", "--storage", storage)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["search", "runs", "points", "hypervolume", "sd"]
    assert [line.split()[:2] for line in lines[1:3]] == [["long", "2"], ["short", "1"]]
    assert lines[5].split("  ")[0] == "sparsity (%)"
    assert "long minus short: hypervolume +" in lines[-1]
    found = json.loads(run("compare", "long=long-*", "short", "--storage", storage, "--json").stdout)
    (pair,) = found["pairs"]
    assert [line.split("  ")[-1].strip() for line in lines[6:-1]] == [
        each["ahead"] or "not told apart" for each in pair["ranges"]
    ]
    first = found["groups"][0]
    assert [each["study"] for each in first["runs"]] == ["long-1", "long-2"]
    assert set(first["surfaces"]) == {"25", "50", "75"}


def test_output_is_written_and_named(storage: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.svg"
    result = run("compare", "long-1", "short", "--storage", storage, "--output", target)
    assert result.stderr == f"wrote {target}\n"
    assert target.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["long-1", "other"], "these studies cannot be compared, as they differ in:\n  protocol.eps: 0.1 in long-1"),
        (["long-1"], "a comparison needs two studies or more"),
        (["long-1", "short", "--confirmed"], "no point is confirmed"),
        (["long-1", "other", "--output", "x.doc"], "it must end in .png, .pdf"),
    ],
)
def test_what_cannot_be_compared_is_refused(storage: Path, arguments: list[str], message: str) -> None:
    result = run("compare", *arguments, "--storage", storage)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
