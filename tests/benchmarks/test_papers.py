from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "papers"))

import common
from common import Claim, Interval, interval, paired, together, verdict

from trainables.recipes.trial import TrialSpec


def test_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert found.mean == 2
    # t of two degrees of freedom at 97.5 % is 4.3027; the standard error is 1 / sqrt(3).
    assert (found.low, found.high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)
    assert interval([5.0]) == Interval(5.0, None, None, 1)
    assert paired([3.0, 4.0], [1.0, 2.0]) == Interval(2.0, 2.0, 2.0, 2)
    assert interval([float("nan"), 1.0, 2.0, 3.0]) == found
    assert interval([float("nan")]).text() == "unknown"
    with pytest.raises(ValueError, match="no value"):
        interval([])


@pytest.mark.parametrize(
    ("low", "high", "said"), [(2, 3, "holds"), (0, 3, "cannot tell"), (-1, 0, "does not"), (None, None, "cannot tell")]
)
def test_a_claim_is_judged_by_the_whole_interval(low: float | None, high: float | None, said: str) -> None:
    found = Interval(1.0, low, high, 3)
    assert verdict(found, at_least=1) == said
    mirrored = Interval(-1.0, None if high is None else -high, None if low is None else -low, 3)
    assert verdict(mirrored, at_most=-1) == said


def test_a_claim_of_parts_holds_only_if_all_do() -> None:
    assert together(["holds", "holds"]) == "holds"
    assert together(["holds", "cannot tell"]) == "cannot tell"
    assert together(["cannot tell", "does not"]) == "does not"
    assert together([]) == "not tested"


def test_claims_are_a_markdown_table() -> None:
    claim = Claim.judged("C1", "rises", "+8", Interval(0.1, 0.09, 0.11, 3), at_least=0.08, scale=100)
    assert common.table([claim]).splitlines()[-1] == "| C1 | rises | +8 | 10.0 [9.0, 11.0] | holds |"


@pytest.mark.slow
def test_points_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = TrialSpec.model_validate(
        {
            "data": {"kind": "digits", "limit": 100, "validation": 50},
            "model": {"kind": "lenet300", "hidden": [8]},
            "recipe": {"kind": "three_stage", "epochs": 1, "finetune_epochs": 0, "train": {"loss": "natural"}},
            "protocol": {"eps": 0.1, "attack": "fgsm"},
        }
    )
    first = common.points(trial, tmp_path)
    assert [point.stands_for for point in first] == [{"sparsity": 0.0}, {}]
    monkeypatch.setattr("trainables.worker.run.train", lambda *_: pytest.fail("trained again"))
    assert common.points(trial, tmp_path) == first


SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks" / "papers").glob("*[0-9].py"))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_script_runs_on_digits_and_ends_with_its_claims(script: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(script), "--tiny", "--seeds", "1", "--folder", str(tmp_path / "stages")]
    command += ["--output", str(tmp_path / "table.md")]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr[-2000:]
    table = (tmp_path / "table.md").read_text()
    assert table.strip() in done.stdout
    assert "| claim | paper | ours | verdict |" in table
