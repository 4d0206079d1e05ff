"""How far a study is: launch, status and watch say the same of the same records and live state."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

from search.launch.driver import Driver
from search.objectives.replicates import mean_point
from search.results.progress import Snapshot, activity, line, lines, most_robust, rate, trial_line
from search.results.status import status
from search.results.study import Study
from search.store import driver_lock
from search.store.live import Header, Writer
from tests.search.command import run
from tests.search.factories import RUNNING, SNAPSHOT, failure, finish, point, sparsity_records

TRIAL = RUNNING
TIMES = ("elapsed", "remaining", "rate")


def counted(now: Snapshot) -> dict[str, object]:
    """Everything but what depends on the moment."""
    trials = [dataclasses.replace(trial, seconds=0.0, silent=0.0) for trial in now.trials]
    return {**dataclasses.asdict(now), **dict.fromkeys(TIMES), "trials": trials}


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    """Twelve trials: complete ones that share a network, a failed one, running ones, a crashed one, others to come."""
    driver = Driver(sparsity_records(tmp_path / "study", budget={"trials": 12}, max_failures=3))
    for number in range(6):
        record = driver.next()
        assert record is not None
        assert record.number == number
        driver.on_progress(number, len(record.keys) if number < 4 else 1, host="node-1")
    finish(driver, 0, point(0, key="a", sparsity=0.5, robust_accuracy=0.7), point(1, key="b", sparsity=0.9))
    finish(driver, 1, point(0, key="a", sparsity=0.5, robust_accuracy=0.7))
    finish(driver, 2, state="failed", failure=failure())
    driver.on_point(3, point(0, key="c", sparsity=0.6))
    driver.on_progress(4, 1, epoch=2, loss=0.5)
    driver.on_crash(5)
    record = driver.next()
    assert record is not None
    if record.number != 6:  # The crashed one first.
        driver.on_crash(record.number)
    return driver


def test_launch_and_study_count_alike(driver: Driver) -> None:
    storage = driver.records.storage
    with driver_lock.acquire(storage) as lease:
        Writer(storage, Header(lease.token, time.time() - 60, 0), driver.running).write()
        said, seen = driver.snapshot(), Study.open(storage.location).progress()
        told = run("status", "study", "--storage", Path(storage.location).parent)
        watched = run("watch", "study", "--once", "--storage", Path(storage.location).parent)
        state = json.loads(run("status", "study", "--json", "--storage", Path(storage.location).parent).stdout)
    assert dict(counted(said), driver=None) == dict(counted(seen), driver=None)
    assert seen.driver is not None
    assert seen.complete == 2
    assert seen.failed == 1
    assert seen.running + seen.waiting == 3 + (seen.issued or 0) - 6
    assert seen.finished + seen.running + seen.waiting + seen.to_come == 12
    for name in ("trials", "points", "hypervolume"):
        assert lines(said)[name] == lines(seen)[name]
        assert f"{lines(said)[name]}\n" in told.stdout, "status has the very line"
        assert f"{lines(said)[name]}\n" in watched.stdout
    assert lines(said)["most robust"] in watched.stdout
    assert [trial["number"] for trial in state["running_trials"]] == [trial.number for trial in said.trials]
    assert (state["running"], state["waiting"]) == (said.running, said.waiting)
    assert "train 2/" in told.stdout


def test_a_trial_whose_end_is_recorded_runs_no_more(driver: Driver) -> None:
    storage = driver.records.storage
    with driver_lock.acquire(storage) as lease:
        Writer(storage, Header(lease.token, time.time() - 60, 0), driver.running).write()
        before = Study.open(storage.location).progress()
        finish(driver, 3, point(0, key="c", sparsity=0.6))
        after = Study.open(storage.location).progress()
    assert (after.complete, after.running) == (before.complete + 1, before.running - 1)
    assert after.points == before.points
    assert 3 not in [trial.number for trial in after.trials]


def test_without_a_live_state_all_that_a_driver_may_run_counts_as_running(driver: Driver) -> None:
    storage = driver.records.storage
    unfinished = len(driver.records.unfinished())
    with driver_lock.acquire(storage):
        seen = Study.open(storage.location)
        assert (seen.progress().running, seen.progress().waiting) == (unfinished, 0)
        assert seen.running() == []
    assert (seen.progress().running, seen.progress().waiting) == (0, unfinished)
    assert "rate" not in lines(seen.progress())


def test_a_finished_study_has_nothing_to_come(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path / "study", budget={"trials": 1}))
    driver.next()
    finish(driver, 0, point(0))
    assert lines(Study.open(str(tmp_path / "study")).progress())["trials"] == "1 planned: 1 complete"
    assert "to come" not in run("status", "study", "--storage", tmp_path).stdout


def test_accuracies_have_their_interval_and_number_of_images() -> None:
    said = lines(SNAPSHOT)["most robust"]
    assert said == "85.0 % [80.9, 88.3] robust, 95.0 % [92.2, 96.8] clean at 50.0 % sparsity (n = 360)"
    assert "0.850 [0.809, 0.883] of 360" in line(SNAPSHOT)
    assert SNAPSHOT.best is not None
    mean = mean_point([SNAPSHOT.best, SNAPSHOT.best.model_copy(update={"robust_accuracy": 0.75})])
    seen = dataclasses.replace(SNAPSHOT, best=mean, front=1, front_points=(mean,))
    assert "1 mean over seeds on the front, " in line(seen)
    assert ", best robust accuracy 80.0 % ± 7.1 (2);" in line(seen)
    flagged = SNAPSHOT.best.model_copy(update={"status": "warn", "flags": ("zero_gradient", "constant")})
    said = lines(dataclasses.replace(SNAPSHOT, best=flagged))["most robust"]
    assert said.endswith("(n = 360); warn: zero_gradient, constant")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "trial 7: train 3/20, loss 0.5123, 1 point, 1 min 5 s"),
        ({"phase": "measure", "epoch": None, "epochs": None, "loss": None}, "trial 7: measure, 1 point, 1 min 5 s"),
        ({"silent": 600.0, "points": 0}, "trial 7: train 3/20 (no report for 10 min 0 s), loss 0.5123, 1 min 5 s"),
        (
            {"waits_for": "process 4 on node-2, started 2026-01-01", "loss": None, "points": 2},
            "trial 7: waits for process 4 on node-2, 2 points, 1 min 5 s",
        ),
    ],
)
def test_a_running_trial_is_a_line(changes: dict[str, object], said: str) -> None:
    assert trial_line(dataclasses.replace(TRIAL, **changes)) == said  # type: ignore[arg-type]


def test_a_trial_that_starts_has_no_epoch_yet() -> None:
    assert activity(dataclasses.replace(TRIAL, phase="starting", epoch=0)) == "starting"


def test_the_rate_is_of_trials_that_have_ended() -> None:
    assert (rate(2, 60.0), rate(0, 60.0), rate(2, 0.0)) == (120.0, None, None)


def test_a_point_that_a_flag_questions_is_not_the_best(driver: Driver) -> None:
    masked = point(0, robust_accuracy=0.99, sparsity=0.96, flags=("zero_gradient",))
    warned = point(1, robust_accuracy=0.8, sparsity=0.97, flags=("dead_layer",))
    assert most_robust([masked, point(robust_accuracy=0.7), warned]) == warned
    assert most_robust([masked]) is None
    finish(driver, 4, masked, warned)
    study = Study(driver.records)
    assert "zero_gradient" in {flag for row in study.front() for flag in row.flags}
    best = study.progress().best
    assert best is not None
    assert best == driver.snapshot().best
    assert (best.robust_accuracy, best.flags) == (warned.robust_accuracy, ("dead_layer",))
    assert {row.flags for row in status(study).best.values()} <= {(), ("dead_layer",)}
