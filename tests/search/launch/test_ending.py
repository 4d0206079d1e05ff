"""How a launch ended: its exit code and the line that says it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from search.launch.driver import Driver
from search.launch.ending import ending, interrupted
from search.results.study import Ending
from search.store import driver_lock
from search.store.records import Records
from tests.search import factories
from trainables.core.errors import ExitCode
from trainables.store.records import Failure
from trainables.store.storage import Storage


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    """The driver of a study of one trial, which has been issued and may not crash."""
    driver = Driver(factories.sparsity_records(tmp_path, budget={"trials": 1}, max_failures=0))
    assert driver.next() is not None
    return driver


def test_a_trial_whose_process_died_too_often_is_a_failed_one(driver: Driver) -> None:
    driver.on_crash(0)
    found = ending(driver, None)
    assert found.exit_code == ExitCode.TRIALS_FAILED == 4
    assert found.message.startswith("too many trials failed: 0 of 1 trials complete, 1 failed; ")


def test_the_reasons_of_failed_trials_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    driver = Driver(factories.sparsity_records(tmp_path, budget={"trials": 4}))
    reasons = {0: None, 1: ("oom", "no memory\nfor this"), 2: ("diverged", "loss is nan"), 3: ("diverged", "inf")}
    for number, reason in reasons.items():
        assert driver.next() is not None
        points = () if reason else (factories.point(),)
        failure = Failure(kind=reason[0], message=reason[1]) if reason else None
        factories.finish(driver, number, *points, failure=failure)
    found = ending(driver, None)
    assert found.exit_code == ExitCode.DONE
    storage = driver.records.storage.location.rpartition("/")
    assert found.message.endswith(
        "; failed: 2 diverged, 1 oom; trial 1 (oom): no memory; "
        f"see `robustsearch status {storage[2]} --storage {storage[0]}`"
    )


def test_damaged_trials_and_what_repairs_them_are_named(tmp_path: Path) -> None:
    records = factories.sparsity_records(tmp_path, budget={"trials": 2})
    before = Driver(records)
    for number in range(2):
        assert before.next() is not None
        factories.finish(before, number, factories.point())
    (Path(records.storage.location) / "trials/00001/outcome.json").write_bytes(b"{")
    found = ending(Driver(Records.open(records.storage)), None)
    assert found.message.startswith("1 of 2 trials complete, 0 failed, 1 damaged; 1 point")
    assert "`robustsearch repair " in found.message


@pytest.mark.parametrize(
    ("point", "code", "message"),
    [
        ({}, 0, "1 of 1 trials complete, 0 failed; 1 point, 1 on the front, hypervolume 0."),
        ({"status": "invalid"}, 3, "no feasible point: 1 of 1 trials complete, 0 failed; "),
    ],
)
def test_a_launch_that_finds_a_front_has_succeeded(
    driver: Driver, point: dict[str, Any], code: int, message: str
) -> None:
    factories.finish(driver, 0, factories.point(**point))
    found = ending(driver, None)
    assert found.exit_code == code
    assert found.message.startswith(message)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_decides_the_exit_code(driver: Driver, number: int, code: int) -> None:
    for found in (ending(driver, number), interrupted(driver.records.storage, number, cluster_died=True)):
        assert found.exit_code == code
        assert found.message.endswith(f"resumes it in {driver.records.storage.location}")


def test_a_launch_that_is_asked_to_stop_ends_as_after_ctrl_c(driver: Driver) -> None:
    with driver_lock.acquire(driver.records.storage):
        driver_lock.request_stop(driver.records.storage)
        assert ending(driver, None).exit_code == 130


def test_a_cluster_that_died_is_distinguished_from_a_second_ctrl_c(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    died, ended = (interrupted(storage, None, cluster_died=died) for died in (True, False))
    assert (died.exit_code, ended.exit_code) == (6, 130)
    assert isinstance(died, Ending)
    assert died.message.startswith("the Ray cluster has died; ")
    assert ended.message.startswith("interrupted; ")


def test_an_interrupted_retraining_is_resumed_by_confirm(tmp_path: Path) -> None:
    said = interrupted(Storage(str(tmp_path / "mine" / "confirm" / "seed-1")), None, cluster_died=False).message
    assert "`robustsearch confirm` with the same options" in said
    assert "`robustsearch launch`" in interrupted(Storage(str(tmp_path / "seed-1")), None, cluster_died=False).message
