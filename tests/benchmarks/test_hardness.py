from __future__ import annotations

import math

import hardness
import numpy as np
import pytest

from search.objectives import pareto
from tests.benchmarks import made


def test_random_trials_are_counted_until_a_share_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    curves = made.curves()
    ladders = [ladder for _, ladder in curves.chains()]
    best = max(ladders, key=hardness.volume)
    # One chain alone: a trial to its last level has all of it, and two to lower ones have less.
    ideal = pareto.hypervolume([epoch.values for epoch in best])
    reached = hardness.trials_until([best], ideal, np.random.default_rng(0))
    assert reached == sorted(reached)
    draws = np.random.default_rng(0)
    levels = [(draws.integers(1), draws.integers(len(best)) + 1)[1] for _ in range(50)]
    assert reached[-1] == 1 + levels.index(len(best))
    monkeypatch.setattr(hardness, "MOST", 5)
    assert hardness.trials_until([best], 2 * ideal, np.random.default_rng(0)) == [math.inf] * len(hardness.SHARES)


def test_what_is_left_under_each_choice_is_that_of_its_chains() -> None:
    curves = made.curves()
    found = {path: dict(left) for path, left in hardness.left_by_choice(curves)}
    assert set(found) == set(curves.choices)
    assert all(max(left.values()) == pytest.approx(1) for left in found.values())
    # The first choices are the best ones of the formula, and the last way to rewind loses most.
    assert found[made.REWIND]["init"] == pytest.approx(1)
    assert found[made.REWIND]["none"] < found[made.REWIND][2] < 1
