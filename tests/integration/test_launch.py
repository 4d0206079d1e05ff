"""The whole way on a real local Ray: from a study file to a front, through kills and restarts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from search.objectives.pareto import nondominated
from search.objectives.values import values
from search.results.study import Study
from tests.integration.waiting import wait_for
from tests.search.tiny import TINY

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

Start = Callable[..., "subprocess.Popen[str]"]


def _finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, f"exit code {process.returncode}, not {code}\n{out}\n{err}"
    return out, err


def _outcomes(study: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in study.glob("trials/*/outcome.json")}


def _params(study: Path) -> dict[str, Any]:
    return {p.parent.name: json.loads(p.read_text())["params"] for p in study.glob("trials/*/trial.json")}


@pytest.mark.slow
def test_a_launch_ends_with_a_front_and_can_be_extended(start: Start, study_file: Path, tmp_path: Path) -> None:
    out, err = _finish(start("launch", str(study_file), NO_COLOR="1"))
    assert "Ray dashboard: http://127.0.0.1:" in err
    assert "4 of 4 trials complete" in err.splitlines()[-2]
    assert "\x1b" not in out + err
    study = Study.open(str(tmp_path / "runs" / "tiny"))
    rows = study.points()
    assert sorted(_outcomes(tmp_path / "runs" / "tiny")) == [f"{n:05d}" for n in range(4)]
    assert len(rows) > 4
    judged = [values(row, study.spec) for row in rows]
    brute = {
        row.point
        for row, mine in zip(rows, judged, strict=True)
        if not any(all(b >= a for a, b in zip(mine, o, strict=True)) and o != mine for o in judged)
    }
    assert {row.point for row in study.front()} == brute
    assert sum(nondominated(judged)) == len(brute)
    for name in brute:
        assert name in out
    before = _outcomes(tmp_path / "runs" / "tiny")
    out, err = _finish(start("launch", "tiny", "--trials", "+2", "--json"))
    assert json.loads(out)
    after = _outcomes(tmp_path / "runs" / "tiny")
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    target = tmp_path / "points.parquet"
    _finish(start("export", "tiny", "--format", "parquet", "--what", "points", "--output", str(target)))
    assert pq.read_table(target).num_rows == len(Study.open(str(tmp_path / "runs" / "tiny")).points())


@pytest.mark.slow
def test_a_driver_that_is_killed_loses_no_finished_trial_and_keeps_issued_parameters(
    start: Start, study_file: Path, tmp_path: Path
) -> None:
    study = tmp_path / "runs" / "tiny"
    first = start("launch", str(study_file), "--trials", "6")
    wait_for(lambda: len(_outcomes(study)) >= 2, 120)
    start.remember()  # type: ignore[attr-defined]
    first.send_signal(signal.SIGKILL)
    first.wait()
    saved, issued = _outcomes(study), _params(study)
    _, err = _finish(start("launch", str(study_file), "--trials", "6"))
    assert f"took over the study from process {first.pid}" in err
    after = _outcomes(study)
    assert sorted(after) == [f"{n:05d}" for n in range(6)]
    assert {name: after[name] for name in saved} == saved
    assert {name: _params(study)[name] for name in issued} == issued


def _stop(how: str, launch: subprocess.Popen[str], start: Start) -> None:
    """Stop a launch as a person or a system does; a terminal and a service manager tell all its processes."""
    group, one = (lambda number: os.killpg(launch.pid, number)), launch.send_signal
    if how == "stop":
        _finish(start("stop", "tiny"))
    elif how == "ctrl-c twice":
        group(signal.SIGINT)
        # The first has been noted when the handler for the second is in place; Python runs handlers one by one.
        time.sleep(0.1)
        group(signal.SIGINT)
    else:
        sends: dict[str, Callable[[], None]] = {
            "ctrl-c": lambda: group(signal.SIGINT),
            "sigterm": lambda: one(signal.SIGTERM),
            "sigterm to all": lambda: group(signal.SIGTERM),
            "closed terminal": lambda: group(signal.SIGHUP),
        }
        sends[how]()


def _wait_for_outcomes(study: Path, count: int) -> None:
    wait_for(lambda: len(_outcomes(study)) >= count, 120)


STOPS = {
    "ctrl-c": 130,
    "sigterm": 143,
    "sigterm to all": 143,
    "closed terminal": 129,
    "stop": 130,
    "ctrl-c twice": 130,
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stopped_launch_says_so_and_goes_on(start: Start, study_file: Path, tmp_path: Path) -> None:
    study = tmp_path / "runs" / "tiny"
    saved: dict[str, bytes] = {}
    issued: dict[str, Any] = {}
    for how, code in STOPS.items():
        launch = start("launch", str(study_file), "--trials", "500", "--set", "recipe.epochs=20")
        _wait_for_outcomes(study, len(saved) + 1)
        if how == "ctrl-c":
            _, err = _finish(start("launch", "tiny"), 5)
            assert f"is driven by process {launch.pid} on" in err.splitlines()[-1]
        start.remember()  # type: ignore[attr-defined]
        _stop(how, launch, start)
        _, err = _finish(launch, code)
        last = [line for line in err.splitlines() if not line.startswith("next: ")][-1]
        # Where Ray was ended too, or nobody waits for it, nothing is counted.
        abrupt = how in ("ctrl-c twice", "sigterm to all")
        assert last.startswith(("interrupted; ", "stopped: ")[not abrupt :]), (how, err)
        assert "`robustsearch launch` with the same study resumes it in" in last
        assert "Traceback" not in err, (how, err)
        assert not (study / "driver.json").exists(), how
        outcomes, params = _outcomes(study), _params(study)
        assert {name: outcomes[name] for name in saved} == saved, how
        assert {name: params[name] for name in issued} == issued, how
        assert {json.loads(content)["state"] for content in outcomes.values()} == {"complete"}, how
        saved, issued = outcomes, params
    _finish(start("launch", "tiny", "--trials", str(len(issued))))
    assert len(_outcomes(study)) == len(issued)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_that_is_extended_equals_one_that_was_long_from_the_start(
    start: Start, study_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "one.yaml").write_text("kind: local\nconcurrency: 1\n")
    for name, lengths in (("parts", ("10", "+5")), ("whole", ("15",))):
        for trials in lengths:
            launch = ("launch", str(study_file), "--cluster", "one.yaml", "--name", name)
            before = _outcomes(tmp_path / "runs" / name)
            # Each in a storage of its own: beside another study, its stages would be taken over.
            _finish(start(*launch, "--trials", trials, "--storage", str(tmp_path / "runs")))
            after = _outcomes(tmp_path / "runs" / name)
            assert {number: after[number] for number in before} == before
        (tmp_path / "runs").rename(tmp_path / f"of-{name}")
    parts, whole = (Study.open(str(tmp_path / f"of-{name}" / name)) for name in ("parts", "whole"))
    assert [trial.params for trial, _ in parts.records.trials()] == [t.params for t, _ in whole.records.trials()]
    told = [[(p.point, p.measured.weights_sha256, p.measured.verdicts) for p in s.points()] for s in (parts, whole)]
    assert told[0] == told[1]
    assert len(parts.records.trials()) == 15


@pytest.mark.slow
def test_a_search_without_a_feasible_point_says_so(start: Start, study_file: Path, tmp_path: Path) -> None:
    study_file.write_text(study_file.read_text() + "constraints: {clean_accuracy: '>= 1.0'}\n")
    out, err = _finish(start("launch", str(study_file), "--trials", "2", "--json"), 3)
    shown = json.loads(out)
    assert shown["front"] == []
    assert shown["error"]["exit_code"] == 3
    assert "no feasible point: 2 of 2 trials complete" in err.splitlines()[-1]
    out, _ = _finish(start("front", "tiny", "--json"), 3)
    assert len(json.loads(out)["least_violating"]) > 0


PLUGIN = """
from typing import Literal
from trainables.models import MODELS
from trainables.models.base import Model


class Hopeless(Model):
    kind: Literal["hopeless"] = "hopeless"

    def network(self, shape, classes):
        from math import prod

        from torch import nn

        class Broken(nn.Linear):
            def forward(self, x):
                if x.device.type != "meta":
                    raise RuntimeError("this network cannot be run")
                return super().forward(x.flatten(1))

        return Broken(prod(shape), classes)


MODELS.register("hopeless", Hopeless)
"""


@pytest.mark.slow
def test_trials_that_all_fail_alike_end_the_search_early(start: Start, tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text(PLUGIN)
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY.replace("model: {kind: lenet300, hidden: [16]}", "model: hopeless\nplugins: [my_models]"))
    _, err = _finish(start("launch", str(file), "--trials", "20"), 4)
    assert "the first 3 trials all failed (bug): this network cannot be run" in err.splitlines()[-2]
    assert len(_outcomes(tmp_path / "runs" / "tiny")) < 8


@pytest.mark.slow
def test_a_network_that_cannot_be_built_is_refused_before_the_first_trial(start: Start, tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text(PLUGIN.replace("from math import prod", 'raise ValueError("no such shape")'))
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY.replace("model: {kind: lenet300, hidden: [16]}", "model: hopeless\nplugins: [my_models]"))
    _, err = _finish(start("launch", str(file)), 2)
    assert "the network hopeless cannot be built: ValueError: no such shape" in err.splitlines()[-1]
    assert not (tmp_path / "runs" / "tiny").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("protocol.examples=90000", "protocol.examples is 90000, but there are"),
        ("recipe.train.select=90000", "recipe.train.select holds back 90000 of"),
        ("recipe.prune.pruner=slimming", "needs a network whose layers have batch norms"),
    ],
)
def test_what_the_data_or_the_network_do_not_allow_is_refused_before_the_first_trial(
    start: Start, study_file: Path, tmp_path: Path, setting: str, message: str
) -> None:
    _, err = _finish(start("launch", str(study_file), "--set", setting), 2)
    assert message in err.splitlines()[-1]
    assert not (tmp_path / "runs" / "tiny").exists()


@pytest.mark.slow
def test_modules_of_our_names_in_the_current_directory_are_not_imported(
    start: Start, study_file: Path, tmp_path: Path
) -> None:
    for name in ("search", "trainables", "clusters"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported the wrong module')")
    _finish(start("launch", str(study_file), "--trials", "1"))


def test_a_study_that_changed_is_refused_before_ray_starts(start: Start, study_file: Path, tmp_path: Path) -> None:
    _finish(start("launch", str(study_file), "--trials", "1"))
    _, err = _finish(start("launch", str(study_file), "--trials", "1", "--set", "protocol.eps=0.2"), 2)
    assert "protocol.eps: was 0.1, is 0.2" in err
    assert "dashboard" not in err
