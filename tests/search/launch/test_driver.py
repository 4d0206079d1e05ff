from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from search.launch.driver import Driver
from search.samplers import SAMPLERS
from search.store.records import Records
from tests.search import factories
from tests.search.factories import SPARSITY, finish, sparsity_records, sparsity_study
from trainables.store import paths
from trainables.store.records import Failure, Point, TrialRecord
from trainables.store.storage import Storage


def start(driver: Driver) -> TrialRecord:
    """Start the next trial and let it store all its stages at once, so that no other waits for them."""
    record = driver.next()
    assert record is not None
    driver.on_progress(record.number, len(record.keys))
    return record


def point(measure: int = 0, robust: float = 0.7, sparsity: float = 0.5, **changes: Any) -> Point:
    return factories.point(measure, robust_accuracy=robust, sparsity=sparsity, **changes)


def test_trials_are_recorded_before_they_run_and_end_with_the_budget(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path))
    issued = []
    for _ in range(4):
        issued.append(start(driver))
        assert (tmp_path / "trials" / f"{issued[-1].number:05d}" / "trial.json").exists()
    assert driver.next() is None
    assert driver.waiting, "any of them may crash"
    assert [record.number for record in issued] == [0, 1, 2, 3]
    assert driver.snapshot().running == 4
    assert all(
        record.keys and record.spec["recipe"]["sparsity"] == record.params["recipe.sparsity"] for record in issued
    )


def test_a_restart_issues_unfinished_trials_again_with_their_parameters(tmp_path: Path) -> None:
    first = Driver(sparsity_records(tmp_path))
    params = {r.number: r.params for r in (start(first), start(first), start(first))}
    finish(first, 1, point())
    second = Driver(Records.open(Storage(str(tmp_path))))
    again = [start(second), start(second), start(second)]
    assert [record.number for record in again] == [0, 2, 3]
    assert {record.number: record.params for record in again[:2]} == {0: params[0], 2: params[2]}
    assert second.next() is None


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "qmc", "random"])
def test_a_resumed_search_proposes_what_an_uninterrupted_one_would(tmp_path: Path, sampler: str) -> None:
    def step(driver: Driver) -> dict[str, Any]:
        record = driver.next()
        assert record is not None
        asked = record.params["recipe.sparsity"]
        on_the_way = point(0, 0.9, 0.0, stands_for={"sparsity": 0.0})
        finish(driver, record.number, on_the_way, point(1, 0.9 - asked / 2, asked))
        return record.params

    budget = {"budget": {"trials": 10}, "sampler": sampler}
    whole = Driver(sparsity_records(tmp_path / "whole", **budget))
    expected = [step(whole) for _ in range(10)]
    sparsity_records(tmp_path / "parts", **budget)
    found = []
    for _ in range(10):
        found.append(step(Driver(Records.open(Storage(str(tmp_path / "parts"))))))
    assert found == expected


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
@pytest.mark.slow
def test_a_sampler_that_grows_slow_sees_a_bounded_study_also_after_a_restart(
    tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SAMPLERS[sampler], "most", 6)
    fields = {"sampler": {"kind": sampler, "n_startup_trials": 3}, "budget": {"trials": 16}}

    def step(driver: Driver) -> dict[str, Any]:
        record = start(driver)
        asked = record.params["recipe.sparsity"]
        on_the_way = point(0, 0.3, 0.0, stands_for={"sparsity": 0.0})
        finish(driver, record.number, on_the_way, point(1, 0.4 + asked / 2, asked))
        return record.params

    whole = Driver(sparsity_records(tmp_path / "whole", **fields))
    expected = []
    for _ in range(16):
        expected.append(step(whole))
        kept = list(whole._sampling.observations)
        assert len(kept) <= 2 * 6 + 1
        best = max(p["recipe.sparsity"] for p in expected[:-1] or expected)
        assert best in [trial.params["recipe.sparsity"] for trial in kept], "the front is never forgotten"
    sparsity_records(tmp_path / "parts", **fields)
    found = [step(Driver(Records.open(Storage(str(tmp_path / "parts"))))) for _ in range(16)]
    assert found == expected


def test_a_point_reported_twice_counts_once(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path))
    driver.next()
    for _ in range(2):
        driver.on_point(0, point())
    assert driver.snapshot().points == 1
    finish(driver, 0, point())
    driver.on_point(0, point())
    assert driver.on_end(0, None) is None
    snapshot = driver.snapshot()
    assert (snapshot.complete, snapshot.front) == (1, 1)


def test_a_worker_that_died_for_good_is_a_failed_trial_that_keeps_its_points(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path))
    driver.next()
    driver.on_point(0, point())
    outcome = driver.on_end(0, Failure(kind="crashed", message="its process died"))
    assert outcome is not None
    assert outcome.failure is not None
    assert (outcome.state, outcome.failure.kind, len(outcome.points)) == ("failed", "crashed", 1)
    assert driver.snapshot().front == 0


def test_a_trial_whose_process_died_runs_again_as_often_as_allowed_and_its_points_count_once(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path, max_failures=2, budget={"trials": 1}))
    for crash in range(3):
        record = driver.next()
        assert record is not None
        assert record.number == 0
        assert driver.next() is None
        driver.on_point(0, point(0, stands_for={"sparsity": 0.1}))
        assert driver.snapshot().points == 1
        assert driver.waiting
        ended = driver.on_crash(0)
        assert (ended is None) == (crash < 2)
    assert ended is not None
    assert ended.failure is not None
    assert (ended.failure.kind, ended.failure.message) == ("crashed", "its process died, time 3; max_failures is 2")
    assert len(ended.points) == 1
    assert not driver.waiting
    assert driver.next() is None


def report(driver: Driver, kind: str, message: str, number: int = 0) -> None:
    """Leave what the supervisor of a worker says."""
    content = Failure(kind=kind, message=message, traceback="the stack").json_bytes()
    driver.records.storage.write(paths.worker_report(number), content)


def test_a_trial_that_hung_is_a_failed_one_and_does_not_run_again(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path, max_failures=2))
    driver.next()
    driver.on_point(0, point())
    report(driver, "timeout", "no progress for 1 h")
    ended = driver.on_crash(0)
    assert ended is not None
    assert ended.failure == Failure(kind="timeout", message="no progress for 1 h", traceback="the stack")
    assert len(ended.points) == 1
    assert not driver.records.storage.exists(paths.worker_report(0))
    following = driver.next()
    assert following is not None
    assert following.number == 1


def test_the_first_trials_all_hanging_end_the_search(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path, budget={"trials": 9}))
    for number in range(3):
        assert driver.stop_reason() is None
        assert driver.next() is not None
        report(driver, "timeout", "no progress for 1 h: model.py, line 3", number)
        driver.on_crash(number)
    assert driver.stop_reason() == "the first 3 trials all failed (timeout): no progress for 1 h: model.py, line 3"


@pytest.mark.parametrize("kind", ["oom", "crashed"])
def test_a_trial_whose_process_was_killed_runs_again_and_then_fails_as_what_killed_it(
    tmp_path: Path, kind: str
) -> None:
    driver = Driver(sparsity_records(tmp_path, max_failures=1))
    for crash in range(2):
        driver.next()
        report(driver, kind, f"SIGKILL {crash}")
        ended = driver.on_crash(0, Failure(kind="crashed", message="what Ray says"))
    assert ended is not None
    assert ended.failure is not None
    assert (ended.failure.kind, ended.failure.message) == (kind, "SIGKILL 1, time 2; max_failures is 1")


def test_without_a_report_what_the_runner_knows_of_a_crash_is_recorded(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path, max_failures=0))
    driver.next()
    ended = driver.on_crash(0, Failure(kind="oom", message="Ray killed it"))
    assert ended is not None
    assert ended.failure is not None
    assert (ended.failure.kind, ended.failure.message) == ("oom", "Ray killed it, time 1; max_failures is 0")


@pytest.mark.parametrize(("kind", "unfinished"), [("timeout", []), ("crashed", [0])])
def test_a_trial_that_hung_while_its_driver_died_does_not_hang_the_next_launch(
    tmp_path: Path, kind: str, unfinished: list[int]
) -> None:
    first = Driver(sparsity_records(tmp_path))
    first.next()
    report(first, kind, "no progress for 1 h")
    again = Driver(Records.open(first.records.storage))
    assert again.records.unfinished() == unfinished
    assert again.snapshot().failed == (kind == "timeout")
    assert not again.records.storage.exists(paths.worker_report(0))


def test_a_report_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path, max_failures=0))
    driver.next()
    driver.records.storage.write(paths.worker_report(0), b"{")
    ended = driver.on_crash(0)
    assert ended is not None
    assert ended.failure is not None
    assert ended.failure.message == "its process died, time 1; max_failures is 0"


def test_a_process_that_died_after_its_outcome_was_written_costs_nothing(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path, max_failures=2))
    driver.next()
    Records.open(driver.records.storage).write_outcome(factories.outcome(0, [point()]))
    ended = driver.on_crash(0)
    assert ended is not None
    assert ended.state == "complete"


def test_a_preempted_trial_stays_unfinished(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path))
    driver.next()
    assert driver.on_end(0, None) is None
    assert Records.open(Storage(str(tmp_path))).unfinished() == [0]


@pytest.mark.slow
def test_the_first_trials_failing_alike_end_the_search_but_one_success_or_another_class_does_not(
    tmp_path: Path,
) -> None:
    def ended(name: str, *kinds: str) -> str | None:
        driver = Driver(sparsity_records(tmp_path / name, budget={"trials": 9}))
        for kind in kinds:
            record = driver.next()
            assert record is not None
            failed = {"failure": factories.failure(kind, f"{kind} it was")} if kind else {}
            finish(driver, record.number, *(() if kind else (point(),)), **failed)
        return driver.stop_reason()

    assert ended("alike", "oom", "oom", "oom") == "the first 3 trials all failed (oom): oom it was"
    assert ended("two", "oom", "oom") is None
    assert ended("mixed", "oom", "diverged", "oom") is None
    assert ended("one good", "oom", "oom", "", "oom") is None


def test_a_restart_after_such_failures_is_given_a_chance(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path))
    for _ in range(3):
        record = driver.next()
        assert record is not None
        finish(driver, record.number, failure=factories.failure())
    assert driver.stop_reason() is not None
    assert Driver(Records.open(Storage(str(tmp_path)))).stop_reason() is None


def test_a_spent_wall_time_ends_the_search(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path, budget={"trials": 4, "wall_time": 1e-6}))
    reason = driver.stop_reason()
    assert reason is not None
    assert "wall time" in reason


def test_spent_gpu_hours_end_the_search_and_count_earlier_launches(tmp_path: Path) -> None:
    budget = {"trials": 9, "gpu_hours": 1.0}
    driver = Driver(sparsity_records(tmp_path, budget=budget), gpus_per_trial=0.5)
    driver.next()
    finish(driver, 0, point(), seconds=3600.0)
    assert driver.stop_reason() is None
    driver.next()
    finish(driver, 1, point(), seconds=3601.0)
    reason = Driver(Records.open(Storage(str(tmp_path))), gpus_per_trial=0.5).stop_reason()
    assert reason == "the budget of 1 GPU-hours is spent"


def test_the_snapshot_counts_what_is_feasible_valid_and_not_dominated(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path, constraints={"clean_accuracy": ">= 0.75"}))
    for _ in range(4):
        start(driver)
    finish(driver, 0, point(0, 0.8, 0.2), point(1, 0.6, 0.6))
    finish(driver, 1, point(0, 0.5, 0.5))
    finish(driver, 2, point(0, 0.7, 0.9, clean_accuracy=0.74))
    finish(driver, 3, point(0, 0.9, 0.9, status="invalid"))
    snapshot = driver.snapshot()
    assert (snapshot.points, snapshot.front) == (5, 2)
    assert snapshot.best is not None
    assert snapshot.best.robust_accuracy == pytest.approx(0.8, abs=0.01)
    assert snapshot.hypervolume == pytest.approx(0.2 * 0.8 + 0.4 * 0.6, abs=0.01)


TWO_PREFIXES = {**SPARSITY, "recipe.train.eps": {"kind": "categorical", "choices": [0.05, 0.1]}}


def test_who_needs_a_stage_that_is_being_trained_waits_and_others_go_first(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path, space=TWO_PREFIXES, budget={"trials": 40}), ahead=8)
    first, second = driver.next(), driver.next()
    assert first is not None
    assert second is not None
    radii = [record.params["recipe.train.eps"] for record in (first, second)]
    assert sorted(radii) == [0.05, 0.1]
    # Both dense trainings are under way: whatever else is issued waits.
    assert driver.next() is None
    assert driver.waiting
    issued = {r.number: r.params["recipe.train.eps"] for r, _ in driver.records.trials()}
    assert len(issued) == 2 + 8
    driver.on_progress(second.number, 2)
    third = driver.next()
    assert third is not None
    assert issued[third.number] == radii[1]
    finish(driver, first.number, failure=factories.failure())
    # The first one failed before it stored anything: another trains the stage.
    fourth = driver.next()
    assert fourth is not None
    assert issued[fourth.number] == radii[0]


def deterministic_run(place: Path, sampler: str, trials: int, speeds: random.Random, stops: int = 0) -> list[Any]:
    """Run with three workers whose speeds are drawn, killed and started again `stops` times; return all parameters."""
    fields = {"sampler": sampler, "deterministic": True, "round": 3, "space": TWO_PREFIXES}
    if not Records.exist(Storage(str(place))):
        sparsity_records(place, **fields, budget={"trials": trials})
    driver = Driver(Records.open(Storage(str(place))), ahead=6)
    running: list[TrialRecord] = []
    kills = sorted(speeds.sample(range(1, 3 * trials), stops))
    for step in range(100 * trials):
        if step in kills:
            driver, running = Driver(Records.open(Storage(str(place))), ahead=6), []
        while len(running) < 3 and (record := driver.next()) is not None:
            running.append(record)
        if not running:
            break
        record = speeds.choice(running)
        if speeds.random() < 0.5:
            driver.on_progress(record.number, speeds.randrange(len(record.keys)))
            continue
        running.remove(record)
        asked = record.params["recipe.sparsity"]
        dense = point(0, 0.9, 0.0, stands_for={"sparsity": 0.0})
        finish(driver, record.number, dense, point(1, 0.9 - asked * record.params["recipe.train.eps"], asked))
    assert not driver.waiting
    return [record.params for record, _ in driver.records.trials()]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
@pytest.mark.slow
def test_a_deterministic_search_is_the_same_at_any_speed_and_after_any_kill(tmp_path: Path, sampler: str) -> None:
    plain = deterministic_run(tmp_path / "plain", sampler, 20, random.Random(0))
    assert len(plain) == 20
    for seed in (1, 2, 3):
        assert deterministic_run(tmp_path / f"killed-{seed}", sampler, 20, random.Random(seed), stops=5) == plain


@pytest.mark.slow
def test_a_deterministic_search_that_is_extended_equals_a_longer_one(tmp_path: Path) -> None:
    deterministic_run(tmp_path / "short", "tpe", 10, random.Random(0))
    short = Records.open(Storage(str(tmp_path / "short")))
    short.replace_spec(short.spec.model_copy(update={"budget": short.spec.budget.model_copy(update={"trials": 15})}))
    extended = deterministic_run(tmp_path / "short", "tpe", 15, random.Random(1))
    assert extended == deterministic_run(tmp_path / "long", "tpe", 15, random.Random(2))


QUEUE = [{"recipe.sparsity": 0.9}, {"recipe.sparsity": 0}]


def sparsities(path: Path) -> list[float]:
    trials = Records.open(Storage(str(path))).trials()
    return [record.params["recipe.sparsity"] for record, _ in trials]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "qmc", "random", "ehvi"])
def test_queued_trials_run_first_and_once(tmp_path: Path, sampler: str) -> None:
    first = Driver(sparsity_records(tmp_path, enqueue=QUEUE, sampler=sampler)).next()
    again = Driver(Records.open(Storage(str(tmp_path))), ahead=9)
    assert again.next() == first
    again.next()
    assert sparsities(tmp_path)[:2] == [0.9, 0.0]
    assert len(set(sparsities(tmp_path))) == 4
    queued = [record.sampler.get("queued", False) for record, _ in again.records.trials()]
    assert queued == [True, True, False, False]


def test_an_enqueued_trial_runs_next(tmp_path: Path) -> None:
    first = sparsity_records(tmp_path, enqueue=QUEUE[:1], budget={"trials": 2})
    driver = Driver(first, ahead=9)
    driver.next()
    driver.next()
    first.replace_spec(sparsity_study(enqueue=[*QUEUE, {"recipe.sparsity": 0.5}]))
    again = Driver(Records.open(Storage(str(tmp_path))), ahead=9)
    again.next()
    again.next()
    assert sparsities(tmp_path)[2:] == [0.0, 0.5]


def test_enqueued_trials_are_observations_of_a_genetic_sampler(tmp_path: Path) -> None:
    sampler = {"kind": "nsga2", "population_size": 2}
    driver = Driver(sparsity_records(tmp_path, enqueue=QUEUE, sampler=sampler, budget={"trials": 5}))
    for _ in range(5):
        record = driver.next()
        assert record is not None
        asked = record.params["recipe.sparsity"]
        finish(driver, record.number, point(0, 0.9 - asked / 2, asked))
    generations = [
        value
        for record, _ in driver.records.trials()
        for name, value in record.sampler["trial"].items()
        if name.endswith(":generation")
    ]
    assert generations == [0, 0, 1, 1, 2]
