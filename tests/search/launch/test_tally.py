"""The counts of a launch: trials by state, points, time left, and why it ends."""

from __future__ import annotations

import pytest

from search.launch.tally import Tally
from tests.search.factories import failure, outcome, point, study_spec, trial


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
    assert (snapshot.elapsed, snapshot.remaining) == (30.0, pytest.approx(10.0 * 6))
    assert snapshot.best is not None


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
