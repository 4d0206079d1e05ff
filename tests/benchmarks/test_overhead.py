from __future__ import annotations

import overhead
import pytest


def test_seconds_outside_are_those_of_all_workers() -> None:
    found = overhead.Shares(trials=50, wall=20.0, working=36.0, workers=2)
    assert found.outside == pytest.approx(0.08)
    assert found.share == pytest.approx(0.9)


def test_goals_stand_beside_what_was_measured() -> None:
    assert overhead.Shares(60, 20.0, 38.0, 2).judged("quickstart", 2) == "goal 0.08 s met, goal 90% met"
    assert overhead.Shares(60, 20.0, 30.0, 2).judged("quickstart", 2) == "goal 0.08 s missed, goal 90% missed"
    assert overhead.Shares(200, 10.0, 8.0, 2).judged("trials that train nothing", 2) == "goal 0.08 s met"


def test_one_worker_that_did_all_meets_no_goal_of_two() -> None:
    assert overhead.Shares(60, 20.0, 19.9, 1).judged("quickstart", 2) == "goals not judged: 1 of 2 workers took part"
