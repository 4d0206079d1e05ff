"""What a person and a program see of confirmed points; the measuring itself is tested in search/launch."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from pyarrow import parquet

from search.cli.confirm import ConfirmView, line
from search.cluster.inline import Inline
from search.launch.confirm import ConfirmSnapshot
from search.launch.confirm_plan import ConfirmPlan
from search.results.study import Ending, Study
from tests.search import factories
from tests.search.command import run
from tests.search.confirmations import make_confirmed_study
from trainables.core.errors import ExitCode


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("confirmed")
    make_confirmed_study(root / "synthetic")
    return root


def test_the_table_says_what_fell_and_what_left_the_front(root: Path) -> None:
    study = Study.open(str(root / "synthetic"))
    shown = run("front", "synthetic", "--confirmed", "--storage", root)
    assert shown.exit_code == ExitCode.DONE
    lines = {text.split()[0]: text for text in shown.stdout.splitlines() if text.startswith("t")}
    for row in study.confirmed():
        assert f"{100 * row.estimate:.1f}" in lines[row.point]
        assert f"{100 * row.robust_accuracy:.1f} [{100 * row.robust_accuracy_low:.1f}" in lines[row.point]
        assert (
            f"{100 * row.robust_accuracy_mean:.1f} ± {100 * (row.robust_accuracy_sd or 0):.1f} (3)" in lines[row.point]
        )
        assert f" {100 * row.drop:.1f} " in lines[row.point]
        assert (" left " in lines[row.point]) == (not row.on_front)
        if row.rank != row.rank_estimate:
            assert f"{row.rank_estimate} → {row.rank}" in lines[row.point]
    left = [row.point for row in study.confirmed() if not row.on_front]
    assert f"left the front: {', '.join(left)}" in shown.stdout
    assert left


def test_the_caption_states_the_threat_model_the_attacks_n_and_the_seeds(root: Path) -> None:
    for shown in (
        run("front", "synthetic", "--confirmed", "--storage", root).stdout,
        run("export", "synthetic", "--what", "confirmed", "--format", "markdown", "--storage", root).stdout,
    ):
        caption = shown.replace("\\", "")
        assert "test split" in caption
        assert "worst of AUTOATTACK + FMN + SQUARE + TRANSFER-DENSE, l_inf, eps = 0.1, n = 200 examples" in caption
        assert "over 3 training seeds" in caption
        assert "PGD-20, n = 360 validation examples" in caption
    latex = run("export", "synthetic", "--what", "confirmed", "--format", "latex", "--storage", root).stdout
    assert r"$\ell_\infty$, $\varepsilon$ = 0.1, n = 200" in latex


def test_exports_have_the_columns_of_the_table(root: Path, tmp_path: Path) -> None:
    names = Study.open(str(root / "synthetic")).table("confirmed").schema.names
    text = run("export", "synthetic", "--what", "confirmed", "--storage", root).stdout
    assert next(csv.reader(io.StringIO(text))) == names
    rows = json.loads(run("export", "synthetic", "--what", "confirmed", "--format", "json", "--storage", root).stdout)
    assert list(rows[0]) == names
    run("export", "synthetic", "--what", "confirmed", "--output", tmp_path / "c.parquet", "--storage", root)
    assert parquet.read_table(tmp_path / "c.parquet").to_pylist() == rows


def test_json_has_attacks_curve_and_seeds_of_each_point(root: Path) -> None:
    found = json.loads(run("front", "synthetic", "--confirmed", "--json", "--storage", root).stdout)
    study = Study.open(str(root / "synthetic"))
    assert [row["point"] for row in found["confirmed"]] == [row.point for row in study.confirmed()]
    detail, row = found["details"][0], study.confirmed()[0]
    assert [each["attack"] for each in detail["attacks"]] == [each.attack for each in row.attacks]
    assert [each["seed"] for each in detail["seeds"]] == [0, 1, 2]
    assert (detail["curve"][0]["eps"], detail["curve"][0]["correct"]) == (0.0, round(row.clean_accuracy * 200))
    assert detail["verdicts"] == row.verdicts


def test_nothing_confirmed_is_exit_code_3_and_says_what_to_type(tmp_path: Path) -> None:
    factories.make_study(tmp_path / "synthetic", 3)
    shown = run("front", "synthetic", "--confirmed", "--storage", tmp_path)
    assert shown.exit_code == ExitCode.NO_FEASIBLE_POINT
    assert f"`robustsearch confirm synthetic --storage {tmp_path}` measures it" in shown.stdout
    exported = run("export", "synthetic", "--what", "confirmed", "--storage", tmp_path)
    assert (exported.exit_code, len(exported.stdout.splitlines())) == (ExitCode.DONE, 1)


@pytest.mark.parametrize("args", [["--seeds", "0"], ["--examples", "0"], ["--points"], ["--attack", "pdg"]])
def test_bad_options_are_exit_code_2(root: Path, args: list[str]) -> None:
    shown = run("confirm", "synthetic", "--storage", root, "--cluster", "inline", *args)
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert "error:" in shown.stderr


def test_weights_that_are_gone_are_exit_code_5(root: Path) -> None:
    shown = run("confirm", "synthetic", "--storage", root, "--cluster", "inline", "--attack", "pgd", "--json")
    assert shown.exit_code == ExitCode.STORAGE
    assert json.loads(shown.stdout)["error"]["exit_code"] == ExitCode.STORAGE
    assert "are no longer stored" in shown.stderr


def test_the_last_line_says_where_the_study_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = ConfirmPlan(
        study=Study.open(str(root / "synthetic")),
        cluster=Inline(),
        rows=(),
        again=(),
        seeds=(0,),
        limit=None,
        first="pgd",
        corruptions=False,
        missing=(),
    )
    monkeypatch.setattr("search.launch.confirm_plan.plan", lambda *given, **options: planned)
    monkeypatch.setattr("search.launch.confirm.confirm", lambda *given, **options: Ending(ExitCode.DONE, "confirmed"))
    shown = run("confirm", "synthetic", "--cluster", "names-a-storage.yaml")
    named = f"synthetic --storage {root}"
    assert shown.stderr.splitlines()[-1] == f"next: robustsearch export {named} --what confirmed --format latex"


def test_progress_is_a_line_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    now = ConfirmSnapshot("s", "measuring", 25, 504, 1, 42, 61.0, 3700.0)
    assert line(now) == "measuring: 1/42 networks, 25/504 results; 1 min 1 s, about 1 h 1 min left"
    view = ConfirmView()
    for elapsed, networks in ((0.0, 0), (5.0, 0), (6.0, 1), (40.0, 1)):
        view(ConfirmSnapshot("s", "measuring", 1, 2, networks, 2, elapsed, None))
    assert len(capsys.readouterr().err.splitlines()) == 3
