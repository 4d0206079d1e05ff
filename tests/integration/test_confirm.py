"""A confirmation with retraining on Ray, its driver killed twice: what was measured and trained is not repeated."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.results.study import Study
from search.store import confirmations
from tests.integration.waiting import wait_for
from tests.search.tiny import TINY, outcomes
from trainables.store.confirmations import Confirmation
from trainables.store.storage import Storage

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]

POINTS = 3
COUNTED = '''
"""Attacks of a few steps; what the workers measure is written down, when it begins and when it has ended."""

import os

from trainables.worker import confirm

LOG = "LOG_FILE"  # Workers have a copy of this module elsewhere.
honest = confirm._Job._measured

def counted(job, step, cancelled):
    network = job.config["network"]
    what = f"{network['point']} {network['seed']} {network['weights_sha256']} {step.name}"
    less = step if step.attack is None else step.model_copy(update={"attack": step.attack.cheaper(3)})
    note("begun", what)
    found = honest(job, less, cancelled)
    note("ended", what)
    return found.model_copy(update={"label": step.label})

def note(moment, what):
    line = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(line, f"{moment} {what}\\n".encode())
    os.close(line)

confirm._Job._measured = counted
'''


@pytest.fixture
def study(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> Path:
    """A study of two trials, whose networks have learnt something."""
    (tmp_path / "counted.py").write_text(COUNTED.replace("LOG_FILE", str(tmp_path / "measured.txt")))
    (tmp_path / "local.yaml").write_text("kind: local\ncpus: 2\n")
    text = TINY.replace("trials: 4", "trials: 2").replace("batch: 256", "batch: 64")
    text = text.replace("optimiser: adam", "optimiser: {kind: adam, lr: 1e-2}")
    (tmp_path / "tiny.yaml").write_text(f"{text}plugins: [counted]\n")
    searched = start("launch", "tiny.yaml", "--cluster", "inline")
    _, said = searched.communicate(timeout=300)
    assert searched.returncode == 0, said
    return tmp_path / "runs" / "tiny"


def test_a_confirmation_with_retraining_that_is_killed_twice(
    study: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    points = [row.point for row in Study.open(str(study)).points()][:POINTS]
    chosen = [word for point in points for word in ("--points", point)]
    command = ["confirm", "tiny", *chosen, "--attack", "pgd", "--examples", "24", "--seeds", "2"]
    command += ["--cluster", "local.yaml"]
    again = study / "confirm" / "seed-1"
    kept: dict[str, bytes] = {}
    for enough in (
        lambda: len(results(study)) >= 4,  # The search's own networks are being measured.
        lambda: len(outcomes(again)) >= 1 or any(each.seed == 1 for each in found(study)),  # Others are trained.
    ):
        killed = start(*command)
        wait_for(lambda enough=enough, killed=killed: enough() or killed.poll() is not None, 300)
        start.remember()  # type: ignore[attr-defined]
        killed.kill()
        assert killed.wait() == -signal.SIGKILL
        kept |= results(study) | {f"seed-1/{name}": content for name, content in outcomes(again).items()}
    done = start(*command, "--json")
    said, errors = done.communicate(timeout=300)
    assert done.returncode == 0, errors
    after = results(study) | {f"seed-1/{name}": content for name, content in outcomes(again).items()}
    assert kept.items() <= after.items()
    _nothing_was_measured_twice(study)
    _retrained_with_another_seed(study, again, points)
    _spread_over_seeds(json.loads(said)["confirmed"], found(study), points)
    shown = start("front", "tiny", "--confirmed")
    table, _ = shown.communicate(timeout=100)
    assert [line.split()[0] for line in table.splitlines() if " ± " in line and "(2)" in line] == points


def results(study: Path) -> dict[str, bytes]:
    """Return the results on disk by path, to the last byte."""
    return {str(path.relative_to(study)): path.read_bytes() for path in study.glob("confirm/[0-9a-f]*/*/*.json")}


def found(study: Path) -> list[Confirmation]:
    return list(confirmations.read(Storage(str(study))).found)


def _nothing_was_measured_twice(study: Path) -> None:
    """Each result was measured once; what was under way at a kill began again and ended once.

    The clean images are measured by both jobs of a network, which may begin at once.
    """
    lines = [line.split() for line in (study.parents[1] / "measured.txt").read_text().splitlines()]
    counts = {moment: Counter(tuple(rest) for at, *rest in lines if at == moment) for moment in ("begun", "ended")}
    planned = {(r.point, str(r.seed), r.weights_sha256, name) for r in found(study) for name in r.planned}
    assert set(counts["ended"]) == planned
    assert {what[-1] for what, times in counts["ended"].items() if times > 1} <= {"clean"}
    repeated = counts["begun"] - counts["ended"]
    assert repeated.total() <= 4, "two kills, two jobs at once"


def _retrained_with_another_seed(study: Path, again: Path, points: list[str]) -> None:
    rows = {row.point: row for row in Study.open(str(study)).points()}
    retrained = Study.open(str(again))
    trials = list(retrained.trials())
    assert {(trial.seed, trial.state) for trial in trials} == {(1, "complete")}
    wanted = {tuple(rows[point].params.items()) for point in points}
    assert sorted(tuple(trial.params.items()) for trial in trials) == sorted(wanted)
    theirs = {row.weights_sha256 for row in retrained.points()}
    measured = {(r.point, r.weights_sha256) for r in found(study) if r.seed == 1}
    assert sorted(point for point, _ in measured) == sorted(points)
    assert {weights for _, weights in measured} <= theirs
    assert not theirs & {row.weights_sha256 for row in rows.values()}
    assert retrained.damaged() == Study.open(str(study)).damaged_confirmations() == []


def _spread_over_seeds(rows: list[dict[str, Any]], measured: list[Confirmation], points: list[str]) -> None:
    assert [row["point"] for row in rows] == points
    for row in rows:
        assert (row["seeds"], row["complete"], row["examples"]) == (2, True, 24)
        clean = [r.correct_count / 24 for r in measured if r.point == row["point"] and r.role == "clean"]
        assert len(clean) == 2
        assert row["clean_accuracy_mean"] == pytest.approx(sum(clean) / 2)
        assert row["clean_accuracy_sd"] == pytest.approx(abs(clean[0] - clean[1]) / 2**0.5)
