from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import standings


def test_runs_that_never_arrive_count_as_infinite() -> None:
    run = {"all_points": [{"hypervolume": 0.5, "epochs": 10, "time": 3}, {"hypervolume": 0.7, "epochs": 25, "time": 7}]}
    assert standings.arrival(run, "all_points", 0.5) == 10
    assert standings.arrival(run, "all_points", 0.6) == 25
    assert standings.arrival(run, "all_points", 0.6, "time") == 7
    assert standings.arrival(run, "all_points", 0.71) == math.inf
    assert standings.median([1, math.inf, 3]) == 3
    assert standings.median([1, 2, 4, math.inf]) == 3
    assert standings.median([1, math.inf, math.inf, 2]) == math.inf


def test_the_interval_covers_the_median_of_a_sample() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        sample = rng.normal(size=20).tolist()
        low, high = standings.interval(standings.medians(sample, np.random.default_rng(0)))
        hits += low <= 0 <= high
    assert hits >= 85


def run(method: str, seed: int, epochs: int) -> dict[str, Any]:
    marks = [{"hypervolume": 0.96, "epochs": epochs, "time": epochs, "trials": 1}]
    return {"method": method, "seed": seed, "all_points": marks, "seconds": 1.0}


def test_the_goals_are_those_against_the_best_rival_with_and_without_sharing() -> None:
    rivals = {"slow": False, "fast": False, "sharing": True}
    epochs = {"ours": 100, "slow": 900, "fast": 250, "sharing": 110}
    runs = [run(method, seed, most + seed) for method, most in epochs.items() for seed in range(8)]
    found = list(standings.goals(runs, 1.0, "all_points", rivals))
    assert [line.partition(":")[0].strip() for line in found] == [
        "ours to 95%, by the best rival as it ships (fast)",
        "ours to 98%, by the best rival as it ships (slow)",
        "ours to 95%, by the best rival with sharing (sharing)",
        "ours to 98%, by the best rival with sharing (sharing)",
    ]
    assert found[0].endswith("8 and 8 runs; goal 0.5 met")
    assert "0.41 (" in found[0]
    assert found[1].endswith("1.00 (1.00..1.00), 8 and 8 runs; goal 0.5 missed"), "nobody came to 98 %"
    assert found[2].endswith("goal 0.8 missed")


def test_a_goal_needs_enough_runs_and_an_interval_below_one() -> None:
    few = [run(method, seed, 100) for method in ("ours", "other") for seed in range(5)]
    assert "not judged by fewer than 6 runs" in next(standings.goals(few, 1.0, "all_points", {"other": False}))
    wide = [run("ours", seed, 10 if seed < 6 else 900) for seed in range(10)]
    wide += [run("other", seed, 30 if seed < 5 else 300) for seed in range(10)]
    found = next(standings.goals(wide, 1.0, "all_points", {"other": False}))
    assert "0.06 (" in found
    assert found.endswith("missed")


def test_a_table_has_a_line_for_each_method() -> None:
    runs = [run("ours", seed, 100 + seed) for seed in range(5)] + [run("other", seed, 300) for seed in range(5)]
    lines = list(standings.lines("title", runs, 1.0, "all_points"))
    other = next(line for line in lines if line.split()[:1] == ["other"])
    assert "300" in other
    assert f"{300 / 102:.1f} (5 runs)" in other, "the median of five has no interval of 95 %"
    runs += [run("ours", 5, 105), run("other", 5, 300)]
    other = next(line for line in standings.lines("title", runs, 1.0, "all_points") if line.split()[:1] == ["other"])
    assert "300 (300..300)" in other
    ours = next(line for line in lines if line.split()[:1] == ["ours"])
    assert len(re.findall(r"\(5 runs\) +1 ", ours)) == 3, "the reference is 1 by definition"


def test_a_ratio_of_runs_that_mostly_arrive_has_an_interval() -> None:
    """Some resamples have medians that are infinite on both sides."""
    runs = [run(method, seed, 100 + seed) for method in ("ours", "other") for seed in range(10)]
    for each in (*runs[:4], *runs[10:14]):
        each["all_points"] = []
    other = next(line for line in standings.lines("title", runs, 1.0, "all_points") if line.split()[:1] == ["other"])
    assert "1.0 (0.0..never)" in other
