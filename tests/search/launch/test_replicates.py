from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from search.launch.driver import Driver
from search.store.records import Records
from tests.search.factories import finish, keyed_points, outcome, sparsity_records, trial
from trainables.store.records import Failure, Point, TrialRecord
from trainables.store.storage import Storage


def started(driver: Driver) -> TrialRecord:
    record = driver.next()
    assert record is not None
    driver.on_progress(record.number, len(record.keys))
    return record


def points(record: TrialRecord, driver: Driver, robust: float) -> list[Point]:
    dense, *others = keyed_points(record, driver.spec, robust_accuracy=robust, clean_accuracy=0.9)
    return [dense.model_copy(update={"stands_for": {"sparsity": 0.0}}), *others]


def test_each_configuration_is_run_with_every_seed_and_keys_of_its_own(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path, seeds=[5, 7], budget={"trials": 4}))
    issued = [started(driver) for _ in range(4)]
    assert driver.next() is None
    assert [(record.configuration, record.seed) for record in issued] == [(0, 5), (0, 7), (1, 5), (1, 7)]
    assert issued[0].params == issued[1].params != issued[2].params == issued[3].params
    assert not set(issued[0].keys) & set(issued[1].keys)
    assert [record.spec["seed"] for record in issued] == [5, 7, 5, 7]


def test_the_sampler_learns_the_mean_once_all_seeds_have_ended(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path, seeds=[5, 7, 9], budget={"trials": 6}))
    first, second, third = (started(driver) for _ in range(3))
    observations = driver._sampling.observations
    finish(driver, first.number, *points(first, driver, 0.6))
    finish(driver, third.number, *points(third, driver, 0.9))
    assert [row.state for row in observations] == ["running"]
    finish(driver, second.number, *points(second, driver, 0.3))
    complete = observations.learned()
    assert [row.origin for row in complete] == ["on the way", "own"]
    assert {row.trial for row in complete} == {0}
    for row in complete:
        assert row.values[0] == pytest.approx(statistics.fmean([0.6, 0.9, 0.3]), abs=1e-3)


def test_a_failed_replicate_is_left_out_and_a_stopped_one_stops_the_configuration(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path, seeds=[5, 7], budget={"trials": 6}))
    issued = [started(driver) for _ in range(6)]
    finish(driver, 0, *points(issued[0], driver, 0.6))
    driver.on_end(1, Failure(kind="diverged", message="the loss is not finite"))
    for number, robust, state in ((2, 0.6, "complete"), (3, 0.2, "stopped")):
        finish(driver, number, *points(issued[number], driver, robust), state=state)
    for number in (4, 5):
        driver.on_end(number, Failure(kind="diverged", message="the loss is not finite"))
    own = [row for row in driver._sampling.observations if row.origin == "own"]
    assert [row.state for row in own] == ["complete", "stopped", "failed"]
    assert own[0].values[0] == pytest.approx(0.6, abs=1e-3)


def test_of_points_that_a_stopped_replicate_has_not_the_sampler_learns_nothing(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path, seeds=[5, 7], budget={"trials": 2}))
    good, bad = started(driver), started(driver)
    finish(driver, good.number, *points(good, driver, 0.9))
    finish(driver, bad.number, state="stopped")
    assert [row.origin for row in driver._sampling.observations.learned()] == []


def test_a_restart_resumes_configurations_and_issues_only_what_is_missing(tmp_path: Path) -> None:
    first = Driver(sparsity_records(tmp_path, seeds=[5, 7], budget={"trials": 4}))
    issued = [started(first) for _ in range(3)]
    finish(first, 0, *points(issued[0], first, 0.6))
    second = Driver(Records.open(Storage(str(tmp_path))))
    again = [started(second) for _ in range(3)]
    assert [record.number for record in again] == [1, 2, 3]
    assert (again[2].configuration, again[2].seed, again[2].params) == (1, 7, issued[2].params)
    finish(second, 1, *points(again[0], second, 0.4))
    assert [row.values[0] for row in second._sampling.observations.learned()] == pytest.approx([0.5, 0.5], abs=1e-3)


def test_more_seeds_complete_the_configurations_that_there_are(tmp_path: Path) -> None:
    records = sparsity_records(tmp_path, seeds=[5], budget={"trials": 2})
    driver = Driver(records)
    for record in (started(driver), started(driver)):
        finish(driver, record.number, *points(record, driver, 0.6))
    grown = records.spec.model_copy(
        update={"seeds": (5, 7), "budget": records.spec.budget.model_copy(update={"trials": 4})}
    )
    records.replace_spec(grown)
    driver = Driver(Records.open(Storage(str(tmp_path))))
    assert [(r.configuration, r.seed) for r in (started(driver), started(driver))] == [(0, 7), (1, 7)]


def test_enqueued_parameters_begin_a_configuration_each(tmp_path: Path) -> None:
    given = [{"recipe.sparsity": [0.5, 0.7]}]
    records = sparsity_records(tmp_path, seeds=[5, 7], budget={"trials": 6}, enqueue=given)
    first = Driver(records)
    for _ in range(3):
        started(first)
    second = Driver(Records.open(Storage(str(tmp_path))))
    sparsities = [started(second).params["recipe.sparsity"] for _ in range(6)]
    assert sparsities[:4] == [0.5, 0.5, 0.7, 0.7]
    assert sparsities[4] == sparsities[5] not in (0.5, 0.7)


def test_the_front_of_a_launch_is_of_means(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path, seeds=[5, 7], budget={"trials": 2}))
    issued = [started(driver), started(driver)]
    finish(driver, 0, *points(issued[0], driver, 0.8))
    assert driver.snapshot().front == 0
    finish(driver, 1, *points(issued[1], driver, 0.4))
    assert driver.snapshot().best is not None
    assert driver.snapshot().best.robust_accuracy == pytest.approx(0.6, abs=1e-3)  # type: ignore[union-attr]


def test_a_study_without_seeds_keeps_records_without_configurations(tmp_path: Path) -> None:
    record = started(Driver(sparsity_records(tmp_path)))
    assert (record.configuration, record.seed) == (None, 0)
    assert trial(0).configuration is None
    assert outcome(0).state == "complete"
