from __future__ import annotations

import math

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


def test_a_table_has_a_line_for_each_method() -> None:
    def run(method: str, seed: int, epochs: int) -> dict[str, object]:
        marks = [{"hypervolume": 0.96, "epochs": epochs, "time": epochs, "trials": 1}]
        return {"method": method, "seed": seed, "all_points": marks, "seconds": 1.0}

    runs = [run("ours", seed, 100 + seed) for seed in range(5)] + [run("other", seed, 300) for seed in range(5)]
    lines = list(standings.lines("title", runs, 1.0, "all_points"))
    other = next(line for line in lines if line.split()[:1] == ["other"])
    assert "300" in other
    assert f"{300 / 102:.1f} (5 runs)" in other, "the median of five has no interval of 95 %"
    runs += [run("ours", 5, 105), run("other", 5, 300)]
    other = next(line for line in standings.lines("title", runs, 1.0, "all_points") if line.split()[:1] == ["other"])
    assert "300 (300..300)" in other
