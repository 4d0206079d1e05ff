"""What workers screen against, and what becomes of screened points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search import objectives
from search.launch.driver import Driver
from search.launch.screening import Screens
from search.results.study import Study
from search.store.records import Records
from tests.search import factories
from trainables.method.screening import Screen
from trainables.store.records import Point
from trainables.store.storage import Storage

ON = {"screening": {"examples": 64}, "constraints": {"clean_accuracy": ">= 0.75"}}


def point(measure: int, robust: float, sparsity: float, **changes: Any) -> Point:
    return factories.point(measure, robust_accuracy=robust, sparsity=sparsity, **changes)


def fronts(screens: Screens) -> list[tuple[float, float]]:
    data = screens.now()
    if data is None:
        return []
    shown = Screen.model_validate(data)
    assert (shown.examples, shown.steps, shown.confidence) == (64, 5, 0.99)
    return sorted((round(p["robust_accuracy"], 2), round(p["sparsity"], 2)) for p in shown.front)


def test_the_screen_is_the_front_of_the_complete_trials() -> None:
    screens = Screens(factories.study_spec(**ON))
    assert fronts(screens) == []
    screens.add(factories.outcome(0, [point(0, 0.9, 0.9)], state="stopped"))
    screens.add(factories.outcome(1, [point(0, 0.9, 0.9)], failure=factories.failure()))
    screens.add(factories.outcome(2, [point(0, 0.9, 0.9, clean_accuracy=0.7)]))
    screens.add(factories.outcome(3, [point(0, 0.9, 0.9, status="invalid"), point(1, 0.9, 0.9, tier="screened")]))
    assert fronts(screens) == []
    screens.add(factories.outcome(6, [point(0, 0.9, 0.9, flags=("zero_gradient",))]))
    assert fronts(screens) == []
    screens.add(factories.outcome(4, [point(0, 0.7, 0.2), point(1, 0.5, 0.5), point(2, 0.4, 0.4)]))
    assert fronts(screens) == [(0.5, 0.5), (0.7, 0.2)]
    screens.add(factories.outcome(5, [point(0, 0.6, 0.6)]))
    assert fronts(screens) == [(0.6, 0.6), (0.7, 0.2)]


def test_a_study_without_screening_has_no_screen() -> None:
    screens = Screens(factories.study_spec())
    screens.add(factories.outcome(0))
    assert screens.now() is None


def test_replicates_are_not_screened() -> None:
    """They are judged by their mean, which may reach the front where one of them does not."""
    screens = Screens(factories.study_spec(**ON, seeds=[1, 2]))
    screens.add(factories.outcome(0, [point(0, 0.7, 0.5)]))
    assert screens.now() is None


def test_counts_go_to_workers_as_they_were_counted() -> None:
    screens = Screens(factories.study_spec(**ON, objectives={"robust_accuracy": "maximise", "nonzero": "minimise"}))
    screens.add(factories.outcome(0, [point(0, 0.7, 0.5)]))
    data = screens.now()
    assert data is not None
    assert data["front"] == [{"robust_accuracy": 0.7, "nonzero": factories.PRUNABLE // 2}]


def test_the_sampler_is_not_rewarded_for_a_point_whose_flags_question_it(tmp_path: Path) -> None:
    spec = factories.study_spec(sampler="random", budget={"trials": 2})
    driver = Driver(Records.create(Storage(str(tmp_path)), spec, factories.FINGERPRINT))
    for number, flags in enumerate([("softmax_output",), ("dead_layer",)]):
        record = driver.next()
        assert record is not None
        found = point(0, 0.99, 0.9, flags=flags)
        driver.on_point(number, found)
        driver.records.write_outcome(factories.outcome(number, [found], params=record.params))
        driver.on_end(number, None)
    questioned, other = list(driver._sampling.observations)
    assert not questioned.values
    assert list(other.values) == objectives.values(point(0, 0.99, 0.9), spec)
    assert [row.remark for row in Study.open(str(tmp_path)).points()] == ["warn: softmax_output", "warn: dead_layer"]


@pytest.mark.parametrize("last", [False, True])
def test_a_screened_point_is_recorded_and_neither_on_the_front_nor_observed(tmp_path: Path, last: bool) -> None:
    spec = factories.study_spec(**ON, sampler="random", budget={"trials": 2})
    driver = Driver(Records.create(Storage(str(tmp_path)), spec, factories.FINGERPRINT))
    record = driver.next()
    assert record is not None
    assert driver.screen() is None
    whole = point(int(not last), 0.6, 0.6, stands_for={"sparsity": 0.31} if last else {})
    cheap = point(int(last), 0.99, 0.9, tier="screened", examples=64, attack="PGD-5", stands_for={"sparsity": 0.4})
    points = sorted([whole, cheap], key=lambda found: found.measure)
    for found in points:
        driver.on_point(0, found)
    Records.open(driver.records.storage).write_outcome(factories.outcome(0, points, params=record.params))
    driver.on_end(0, None)
    assert not objectives.valid(cheap, spec)
    study = Study.open(str(tmp_path))
    assert [row.tier for row in study.points()] == [found.tier for found in points]
    assert [row.on_front for row in study.points()] == [found is whole for found in points]
    assert study.infeasible() == []
    trials = list(driver._sampling.observations)
    assert trials[0].state == ("stopped" if last else "complete")
    assert [list(trial.values) for trial in trials[1:]] == ([objectives.values(whole, spec)] if last else [])
    screen = driver.screen()
    assert screen is not None
    assert len(screen["front"]) == 1
