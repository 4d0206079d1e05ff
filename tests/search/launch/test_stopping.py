"""Early stopping of a study: from records to verdicts, and from verdicts to records."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from search.launch.driver import Driver
from search.launch.stopping import EarlyStopping, MeasurementPlan
from search.results.study import Study
from search.store.records import Records
from tests.search import factories
from tests.search.factories import rung
from trainables.recipes import RECIPES
from trainables.store.records import Failure, Outcome, TrialRecord
from trainables.store.storage import Storage

EAGER = {"kind": "moasha", "grace": 1, "eta": 2, "max_rungs": 3}
DIED = Failure(kind="crashed", message="its process died")
SPACE = {
    "recipe.sparsity": {"kind": "float", "low": 0.3, "high": 0.98},
    "recipe.train.eps": {"kind": "float", "low": 0.02, "high": 0.2},
}


def spec(**changes: Any) -> Any:
    return factories.study_spec(
        **{"space": SPACE, "constraints": {}, "sampler": "random", "early_stopping": EAGER} | changes
    )


def record(number: int, sparsity: float = 0.9, **changes: Any) -> TrialRecord:
    values = {"recipe.sparsity": sparsity, "recipe.train.eps": 0.05 + number / 1000}
    return factories.trial(number, changes.pop("spec", None) or spec(), params=values, **changes)


def point(measure: int, robust: float, sparsity: float, **changes: Any) -> Any:
    return factories.point(measure, robust_accuracy=robust, sparsity=sparsity, **changes)


def test_trials_are_compared_at_the_sparsity_they_aim_at() -> None:
    early = EarlyStopping(spec())
    for number, (robust, sparsity) in enumerate([(0.5, 0.5), (0.4, 0.4), (0.5, 0.95), (0.45, 0.6)]):
        early.partial(record(number, sparsity), rung(resource=1, robust_accuracy=robust))
    assert [early.stops(number) for number in range(4)] == [False, True, False, True]


def test_a_measurement_plan_lists_sparsities_epochs_and_the_share_left() -> None:
    ladder = RECIPES.parse(
        {"kind": "imp", "sparsity": 0.8, "rate": 0.5, "epochs": 12, "rewind": 4, "round_epochs": None}
    )
    plan = MeasurementPlan.of(ladder.phases())
    assert (plan.sparsities, plan.epochs) == ((0.0, 0.5, 0.75, 0.8), (12, 20, 28, 36))
    assert [plan.left(0, share) for share in (0.25, 0.5, 1.0)] == pytest.approx([33 / 36, 30 / 36, 24 / 36])
    assert plan.left(2, 0.5) == pytest.approx(12 / 36)
    assert plan.left(3, 1.0) == 0
    searched = RECIPES.parse({"kind": "shi2022", "sparsity": 0.8, "epochs": 6, "search_epochs": 4})
    assert MeasurementPlan.of(searched.phases()) == MeasurementPlan((0.8,), (10,))
    rising = RECIPES.parse({"kind": "gradual", "sparsity": 0.8, "epochs": 6})
    assert MeasurementPlan.of(rising.phases()).sparsities == (0.8,)
    inherited = RECIPES.parse({"kind": "wang2020", "sparsity": 0.8})
    assert MeasurementPlan.of(inherited.phases()).sparsities == (0.0, 0.8, 0.0)
    pruned_only = RECIPES.parse({"kind": "three_stage", "sparsity": 0.5, "epochs": 3, "finetune_epochs": 0})
    assert MeasurementPlan.of(pruned_only.phases()) == MeasurementPlan((0.0, 0.5), (3, 3))


def test_a_study_without_early_stopping_stops_nothing() -> None:
    early = EarlyStopping(spec(early_stopping="none"))
    for number in range(9):
        early.partial(record(number), rung(robust_accuracy=1 - number / 10))
        early.point(record(number), point(0, 1 - number / 10, 0.0))
    assert not any(early.stops(number) for number in range(9))


def test_what_is_shown_twice_counts_once_and_what_cannot_be_compared_not_at_all() -> None:
    early = EarlyStopping(spec())
    early.partial(record(0), rung(resource=1, robust_accuracy=0.6))
    early.partial(record(1), rung(resource=1, robust_accuracy=0.5))
    assert early.stops(1)
    early.partial(record(1), rung(resource=1, robust_accuracy=0.9))
    assert early.stops(1), "once said, it stays said"
    early.point(record(2), point(0, 0.1, 0.0, status="invalid", epochs_trained=1))
    assert not early.stops(2)


def test_a_trial_whose_parameters_the_study_file_gives_runs_to_its_end() -> None:
    early = EarlyStopping(spec())
    early.partial(record(0), rung(resource=1, robust_accuracy=0.6))
    early.partial(record(1, sampler={"queued": True}), rung(resource=1, robust_accuracy=0.1))
    assert not early.stops(1)


def test_a_missed_constraint_keeps_a_point_off_the_front_that_protects() -> None:
    """A trial that alone has a point of the front continues after worse ones; an infeasible point does not count."""
    for clean, stops in ((0.9, False), (0.6, True)):
        early = EarlyStopping(spec(constraints={"clean_accuracy": ">= 0.75"}))
        early.partial(record(0), rung(resource=2, robust_accuracy=0.9))
        early.point(record(1), point(0, 0.5, 0.0, clean_accuracy=clean, epochs_trained=0))
        early.partial(record(1), rung(1, resource=2, robust_accuracy=0.1, sparsity=0.9))
        assert early.stops(1) == stops


def test_a_point_that_is_not_sparse_enough_protects_no_trial() -> None:
    for sparsity, stops in ((0.6, False), (0.0, True)):
        early = EarlyStopping(spec(constraints={"sparsity": ">= 0.5"}))
        early.partial(record(0), rung(resource=2, robust_accuracy=0.9))
        early.point(record(1), point(0, 0.5, sparsity, epochs_trained=0))
        early.partial(record(1), rung(1, resource=2, robust_accuracy=0.1, sparsity=0.9))
        assert early.stops(1) == stops


def study(path: Path, **changes: Any) -> Driver:
    changes = {"budget": {"trials": 8}, **changes}
    return Driver(Records.create(Storage(str(path)), spec(**changes), factories.FINGERPRINT))


def started(driver: Driver) -> TrialRecord:
    issued = driver.next()
    assert issued is not None
    driver.on_progress(issued.number, len(issued.keys))
    return issued


def work(driver: Driver, quality: float) -> Outcome:
    """Do what a worker does with the next trial, as far as it is let; the better its quality, the more robust."""
    issued = started(driver)
    number, sparsity = issued.number, issued.params["recipe.sparsity"]
    rungs, points = [], []
    for resource, share in ((1, 0.1), (2, 0.2), (4, 0.4)):
        rungs.append(rung(0, share, resource=resource, robust_accuracy=quality * share))
        driver.on_partial(number, rungs[-1])
        if driver.stops(number):
            ended = driver.on_end(number, None)
            assert ended is not None
            return ended
    for measure, at in enumerate((0.0, sparsity)):
        stands_for = {} if measure else {"sparsity": 0.0}
        found = point(measure, quality * (1 - at / 2), at, epochs_trained=10 + 5 * measure, stands_for=stands_for)
        points.append(found)
        driver.on_point(number, found)
    Records.open(driver.records.storage).write_outcome(
        factories.outcome(number, points, rungs=tuple(rungs), params=issued.params)
    )
    ended = driver.on_end(number, None)
    assert ended is not None
    return ended


QUALITIES = (0.5, 0.9, 0.3, 0.7, 0.2, 0.95, 0.4, 0.6)


def test_a_stopped_trial_is_recorded_with_what_it_showed_and_is_on_no_front(tmp_path: Path) -> None:
    driver = study(tmp_path)
    ends = [work(driver, quality) for quality in QUALITIES]
    stopped = [end for end in ends if end.state == "stopped"]
    assert 2 <= len(stopped) <= 6
    for end in stopped:
        assert end.rungs
        assert end.failure is None
        assert not end.points
    snapshot = driver.snapshot()
    assert (snapshot.stopped, snapshot.complete, snapshot.failed) == (len(stopped), 8 - len(stopped), 0)
    assert snapshot.finished == 8
    assert driver.stop_reason() is None
    read = Study(Records.open(Storage(str(tmp_path))))
    assert read.summary().stopped == len(stopped)
    assert {row.trial for row in read.points()} == {end.number for end in ends if end.state == "complete"}


def test_a_stopped_trial_is_observed_with_its_last_values_and_is_no_point(tmp_path: Path) -> None:
    driver = study(tmp_path)
    ends = [work(driver, quality) for quality in QUALITIES]
    trials = [row for row in driver._sampling.observations if row.origin == "own"]
    assert [trial.state for trial in trials] == [end.state for end in ends]
    assert {trial.state for trial in trials} == {"stopped", "complete"}
    assert not {trial.trial for trial in driver._sampling.observations.learned()} & {
        end.number for end in ends if end.state == "stopped"
    }
    last = [end.rungs[-1] for end in ends if end.state == "stopped"]
    shown = [trial.values for trial in trials if trial.state == "stopped"]
    assert shown == [(look.robust_accuracy, look.sparsity) for look in last]


@pytest.mark.slow
def test_a_search_that_is_resumed_after_every_trial_stops_the_same_trials(tmp_path: Path) -> None:
    for kind in (EAGER, {"kind": "reach", "evidence": 1, "worth": 1}):
        whole = study(tmp_path / kind["kind"] / "whole", early_stopping=kind)
        expected = [(end.state, len(end.rungs)) for end in (work(whole, quality) for quality in QUALITIES)]
        place = Storage(str(tmp_path / kind["kind"] / "parts"))
        study(Path(place.location), early_stopping=kind)
        found = [work(Driver(Records.open(place)), quality) for quality in QUALITIES]
        assert [(end.state, len(end.rungs)) for end in found] == expected
        assert {"stopped", "complete"} == {end.state for end in found}


def test_a_trial_that_died_after_its_stop_request_is_stopped_and_others_that_died_failed(tmp_path: Path) -> None:
    driver = study(tmp_path)
    first, second = started(driver), started(driver)
    driver.on_partial(first.number, rung(resource=1, robust_accuracy=0.6))
    driver.on_partial(second.number, rung(resource=1, robust_accuracy=0.0))
    assert [driver.stops(0), driver.stops(1)] == [False, True]
    ends = [driver.on_end(number, DIED) for number in (0, 1)]
    assert [end.state for end in ends if end] == ["failed", "stopped"]
    assert all(len(end.rungs) == 1 for end in ends if end)


def test_a_stopped_trial_is_continued_where_its_parameters_are_enqueued(tmp_path: Path) -> None:
    driver = study(tmp_path)
    ends = [work(driver, quality) for quality in QUALITIES]
    stopped = next(end for end in ends if end.state == "stopped")
    assert Driver(driver.records).next() is None, "a launch does not do it by itself"
    more = {"enqueue": [stopped.params], "budget": {"trials": 9}}
    driver.records.replace_spec(spec(**more))
    again = Driver(Records.open(Storage(str(tmp_path))))
    found = work(again, QUALITIES[stopped.number])
    assert (found.state, found.params) == ("complete", stopped.params)


def test_looks_of_trials_that_are_not_running_change_nothing(tmp_path: Path) -> None:
    driver = study(tmp_path)
    driver.on_partial(5, rung())
    assert not driver.stops(5)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_in_a_deterministic_study_verdicts_do_not_depend_on_who_is_faster(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    driver = study(tmp_path, deterministic=True, round=3)
    for quality in (0.5, 0.4, 0.6):
        assert work(driver, quality).state == "complete", "nobody of this round has been seen"
    late = {started(driver).number: robust for robust in (0.1, 0.055, 0.052)}
    numbers = list(late)
    stops = {}
    for index in order:
        number = numbers[index]
        driver.on_partial(number, rung(0, 0.1, resource=1, robust_accuracy=late[number]))
        stops[number] = driver.stops(number)
        driver.on_end(number, None if stops[number] else DIED)
    alone = EarlyStopping(driver.spec)
    for _, outcome in driver.records.trials()[:3]:
        assert outcome is not None
        alone.end(driver.records.trials()[outcome.number][0], outcome)
    for trial, _ in driver.records.trials()[3:]:
        fresh = rung(0, 0.1, resource=1, robust_accuracy=late[trial.number])
        alone.partial(trial, fresh)
        assert alone.stops(trial.number) == stops[trial.number]


def test_outcomes_without_partial_measurements_are_read() -> None:
    old = factories.outcome(3).model_dump(mode="json", by_alias=True)
    assert old.pop("rungs") == []
    assert Outcome.model_validate(old).rungs == ()
