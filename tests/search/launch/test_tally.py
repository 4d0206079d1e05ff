"""The counts of a launch: trials by state, points, time left, and why it ends."""

from __future__ import annotations

import dataclasses

import pytest

from search.launch.tally import Tally
from tests.search.factories import RUNNING, failure, outcome, point, study_spec, trial


def test_trials_and_points_are_counted_and_the_time_left_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    tally = Tally(study_spec(budget={"trials": 10}), 0.0)
    assert tally.snapshot(2, 0).remaining is None
    tally.end(trial(0), outcome(0, [point(0), point(1, sparsity=0.9)]), now=False)
    now[0] = 130.0
    for number, state in ((1, "complete"), (2, "stopped"), (3, "failed")):
        failed = failure("oom") if state == "failed" else None
        tally.end(trial(number), outcome(number, state=state, failure=failed), now=True)
    snapshot = tally.snapshot(2, 5)
    assert (snapshot.complete, snapshot.stopped, snapshot.failed, snapshot.running) == (2, 1, 1, 2)
    assert (snapshot.finished, snapshot.points) == (4, 3 + 5)
    assert snapshot.elapsed == 30.0
    assert snapshot.remaining == pytest.approx(10.0 * 6)
    assert snapshot.best is not None


def test_trials_count_by_what_they_train_where_later_ones_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    recipe = {"kind": "imp", "epochs": 18, "rate": 0.5, "rewind": "init", "round_epochs": 2}
    sparsity = {"kind": "categorical", "choices": [0.5]}
    tally = Tally(study_spec(recipe=recipe, space={"recipe.sparsity": sparsity}, budget={"trials": 10}), 0.0)
    # The first trial trains 20 epochs, the others none; each is measured besides.
    now[0] = 42.0
    tally.end(trial(0), outcome(0), now=True)
    assert tally.snapshot(2, 0).remaining == pytest.approx(42.0 * 9 / 21)
    half = dataclasses.replace(RUNNING, done=0.5)
    now[0] = 44.0
    assert tally.snapshot(2, 0, (half, half)).remaining == pytest.approx(44.0 * 8 / 22)


@pytest.mark.parametrize(
    ("before", "ended", "running", "wall_time", "found"),
    [
        (0, 0, 0, None, None),
        (0, 0, 1, None, None),
        (0, 2, 0, None, 60 / 2 * 8),
        (0, 0, 2, None, 60 / 0.5 * 9.5),
        (1, 1, 2, None, 60 / 1.5 * 7.5),
        (0, 2, 0, 100.0, 40.0),
        (8, 2, 0, None, 0.0),
    ],
    ids=["nothing done", "hardly begun", "ended", "begun", "both", "wall time", "done"],
)
def test_the_time_left_counts_what_running_trials_have_done(
    monkeypatch: pytest.MonkeyPatch, before: int, ended: int, running: int, wall_time: float | None, found: float | None
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    eps = {"kind": "float", "low": 0.1, "high": 0.2}
    budget = {"trials": 10, "wall_time": wall_time}
    # Nothing is shared: the radius is drawn anew for each trial.
    tally = Tally(study_spec(space={"recipe.train.eps": eps}, budget=budget), 0.0)
    for number in range(before + ended):
        tally.end(trial(number), outcome(number), now=number >= before)
    now[0] = 60.0
    quarter = dataclasses.replace(RUNNING, done=0.25)
    assert tally.remaining((quarter,) * running) == (None if found is None else pytest.approx(found))


def test_no_time_is_left_where_more_trials_have_ended_than_the_budget_has() -> None:
    tally = Tally(study_spec(budget={"trials": 1}), 0.0)
    for number in range(3):
        tally.end(trial(number), outcome(number), now=True)
    assert tally.snapshot(0, 0).remaining == 0


def test_a_search_whose_first_trials_fail_alike_is_hopeless() -> None:
    tally = Tally(study_spec(abort_after=2), 0.0)
    tally.end(trial(1), outcome(1, failure=failure("oom", "no memory\nleft")), now=True)
    assert tally.same_failure() is None
    tally.end(trial(0), outcome(0, failure=failure("oom", "other")), now=True)
    assert tally.same_failure() == "the first 2 trials all failed (oom): no memory"
    tally.end(trial(2), outcome(2), now=True)
    assert tally.same_failure() is None


def test_running_trials_spend_gpu_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    tally = Tally(study_spec(budget={"gpu_hours": 1.0}), 0.5)
    tally.start(0)
    now[0] = 3600.0
    assert tally.spent() is None
    now[0] = 7200.0
    assert tally.spent() == "the budget of 1 GPU-hours is spent"
    assert tally.stop(0) == 7200.0
    assert tally.spent() is None
