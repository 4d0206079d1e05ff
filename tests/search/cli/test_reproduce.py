"""`reproduce` up to the point where a launch would start, and after it has ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search.results.study import Ending, Study
from search.store.records import Records
from tests.search.command import run
from tests.search.factories import FINGERPRINT
from trainables.core.errors import ExitCode

TINY = ("--set", "data=digits", "--set", "data.validation=300")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Stand in for the launch: note the study, and leave one without trials."""
    plans: list[Any] = []

    def launch(plan: Any, *, view: Any, say: Any, wait: float, owns_process: bool) -> Study:
        plans.append(plan)
        records = Records.open(plan.storage) if Records.exist(plan.storage) else None
        records = records or Records.create(plan.storage, plan.spec, FINGERPRINT)
        return Study(records, Ending(ExitCode.DONE, "0 of 3 trials complete"))

    monkeypatch.setattr("search.launch.run.launch", launch)
    monkeypatch.chdir(tmp_path)
    return plans


def test_without_a_paper_all_tables_are_listed() -> None:
    listed = json.loads(run("reproduce", "--json").stdout)["papers"]
    assert {"cosentino2019", "guo2018", "piras2024", "rakin2019", "shi2022", "wang2020"} == listed.keys()
    assert "cosentino2019 --table mnist: table 1" in run("reproduce").stdout


@pytest.mark.parametrize("scale", ["0", "1.5", "nan"])
def test_a_scale_is_a_share(scale: str, started: list[Any]) -> None:
    result = run("reproduce", "cosentino2019", "--table", "mnist", "--scale", scale)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "is not in the range 0<x<=1" in result.stderr
    assert started == []


@pytest.mark.slow
def test_a_table_is_launched_as_a_study_and_printed(started: list[Any]) -> None:
    result = run("reproduce", "cosentino2019", "--table", "mnist", "--scale", "0.05", "--seeds", "2", *TINY)
    assert result.exit_code == 0, result.stderr
    (plan,) = started
    assert (plan.spec.name, plan.spec.seeds, plan.spec.recipe.epochs) == ("cosentino2019-mnist-scale-0.05", (0, 1), 3)
    assert "SHORTENED" in result.stdout
    assert "60.1 ± 1.0" in result.stdout
    assert "not tested" in result.stdout
    again = run("reproduce", "cosentino2019", "--table", "mnist", "--scale", "0.05", "--seeds", "3", *TINY)
    assert again.exit_code == 0, again.stderr
    assert "seeds: every configuration is run with 2 too" in again.stderr


def test_what_is_interrupted_says_how_it_continues_and_prints_no_empty_table(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from search.launch import run as launching

    whole = launching.launch

    def stopped(*given: Any, **options: Any) -> Study:
        found = whole(*given, **options)
        return Study(found.records, Ending(ExitCode.INTERRUPTED, "stopped: 0 of 3 trials complete"))

    monkeypatch.setattr("search.launch.run.launch", stopped)
    result = run("reproduce", "shi2022", *TINY)
    assert result.exit_code == ExitCode.INTERRUPTED
    assert "the same command resumes it; `robustsearch export shi2022-lenet300 --what paper`" in result.stderr
    assert not result.stdout


def test_all_tables_of_a_paper_run_one_after_the_other(started: list[Any]) -> None:
    result = run("reproduce", "wang2020", "--json", *TINY)
    assert [plan.spec.name for plan in started] == ["wang2020-inheritance", "wang2020-inverse"]
    assert [table["study"] for table in json.loads(result.stdout)["tables"]] == [plan.spec.name for plan in started]
    assert "choose one with --table" in run("reproduce", "wang2020", "--name", "x", *TINY).stderr


def test_a_table_and_a_recipe_at_once_are_refused() -> None:
    result = run("reproduce", "piras2024", "--table", "hydra-vgg16", "--recipe", "hydra")
    assert (result.exit_code, "not both" in result.stderr) == (2, True)


def test_the_table_can_be_written_and_exported_later(started: list[Any], tmp_path: Path) -> None:
    written = tmp_path / "table.tex"
    command = ("reproduce", "shi2022", "--format", "latex", "--output", str(written), *TINY)
    assert run(*command).exit_code == 0
    assert "\\toprule" in written.read_text()
    exported = run("export", "shi2022-lenet300", "--what", "claims", "--format", "csv")
    assert exported.stdout.startswith("claim,paper,ours,verdict,why")


def test_what_would_run_can_be_seen_first(started: list[Any]) -> None:
    result = run("reproduce", "piras2024", "--recipe", "hydra", "--dry-run", *TINY)
    assert result.exit_code == 0, result.stderr
    assert "9, chosen by grid" in result.stdout
    assert not started
    assert "did you mean 'hydra'" in run("reproduce", "piras2024", "--recipe", "hydr").stderr
