from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search.results.compare.comparison import compare
from search.results.compare.groups import Group
from search.results.compare.ranges import Steps, attained, depth, ranges
from search.results.compare.resamples import Resamples
from search.results.compare.runs import Network, Run
from tests.search.results.compare.made import made, standing

RUNS = 200


def test_a_range_has_the_mean_of_what_each_front_attains_in_it(tmp_path: Path) -> None:
    """In density, 80 to 90 % sparsity is one halving; the first front falls within it, at 85 %."""
    one = made(tmp_path, "one", [(0.85, standing(180)), (0.95, standing(100))])
    other = made(tmp_path, "other", [(0.95, standing(120))])
    (pair,) = compare([Group("one", (one,)), Group("other", (other,))]).pairs
    found = {each.low: each for each in pair.ranges}
    fall = one.front()[0].sparsity
    share = (depth(fall) - depth(0.8)) / (depth(0.9) - depth(0.8))
    middle = found[0.8]
    assert (middle.high, middle.ahead) == (0.9, None if share < 0.2 else "one")
    assert middle.one == pytest.approx(share * 0.9 + (1 - share) * 0.5)
    assert middle.other == pytest.approx(0.6)
    assert middle.difference is not None
    assert middle.difference.value == pytest.approx(share * 0.3 - (1 - share) * 0.1)
    sparse = found[0.9]
    assert sparse.high == pytest.approx(0.95, abs=1e-4)
    assert (sparse.one, sparse.other, sparse.ahead) == (0.5, 0.6, "other")


@pytest.mark.parametrize(("gained", "lost", "ahead"), [(30, 10, "one"), (25, 20, None), (10, 30, "other")])
def test_who_is_ahead_follows_from_the_examples_that_differ(
    tmp_path: Path, gained: int, lost: int, ahead: str | None
) -> None:
    """The spread of a paired difference is that of McNemar's test: of the examples that only one network withstands."""
    both, examples = 100, 200
    first = made(tmp_path, "one", [(0.5, standing(both + gained, examples))])
    other = standing(both, examples)
    other[both + gained : both + gained + lost] = True
    second = made(tmp_path, "other", [(0.5, other)])
    (pair,) = compare([Group("one", (first,)), Group("other", (second,))]).pairs
    (found,) = pair.ranges
    assert found.difference is not None
    spread = ((gained + lost) / examples - ((gained - lost) / examples) ** 2) ** 0.5 / examples**0.5
    assert found.difference.value == pytest.approx((gained - lost) / examples)
    assert (found.difference.high - found.difference.low) / 3.92 == pytest.approx(spread, rel=0.1)
    assert found.ahead == ahead


def test_beyond_the_sparsest_point_of_one_only_the_other_is_ahead(tmp_path: Path) -> None:
    one = made(tmp_path, "one", [(0.45, standing(180))])
    other = made(tmp_path, "other", [(0.97, standing(60))])
    (pair,) = compare([Group("one", (one,)), Group("other", (other,))]).pairs
    by_low = {each.low: (each.one, each.other, each.ahead) for each in pair.ranges}
    assert by_low == {
        0.0: (0.9, 0.3, "one"),
        0.5: (None, 0.3, "other"),
        0.8: (None, 0.3, "other"),
        0.9: (None, 0.3, "other"),
        0.95: (None, 0.3, "other"),
    }
    assert pair.ranges[0].high == pytest.approx(0.45, abs=1e-4)


@pytest.mark.slow
def test_of_equal_searches_with_few_repeats_few_are_ahead_anywhere() -> None:
    """Three repeats each: the bootstrap over them alone would name one far more often than in 5 % of comparisons."""
    random = np.random.default_rng(0)
    named = plain = 0
    for _ in range(RUNS):
        runs = [run(random, random.normal(0, 0.1)) for _ in range(6)]
        steps = Steps(runs, Resamples(runs, 200))
        one, other = (attained(steps, label, at) for label, at in (("one", range(3)), ("other", range(3, 6))))
        found = [each for each in ranges(steps, one, other) if each.difference is not None]
        assert len(found) == 3
        named += any(each.ahead for each in found)
        plain += any(each.difference.low > 0 or each.difference.high < 0 for each in found if each.difference)
    assert named / RUNS <= 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5
    assert plain / RUNS > 0.15


def test_networks_of_one_training_are_resampled_with_the_same_seeds() -> None:
    """Else their mean over a range would vary less than each of them, though all are what the seeds have made them."""
    verdicts = np.stack([np.tile(standing(count), (2, 1)) for count in (100, 180)])
    measures = {"robust_accuracy": 0.7, "clean_accuracy": 0.7}
    networks = tuple(Network("", {**measures, "sparsity": sparsity}, verdicts) for sparsity in (0.5, 0.6, 0.7))
    resamples = Resamples([Run("", networks, np.zeros((3, 1)), ("robust_accuracy",))], 200)
    first, *others = resamples.robust(0)
    assert first.std() > 0.1
    assert all(np.allclose(first, other, atol=1e-5) for other in others)


def run(random: np.random.Generator, better: float) -> Run:
    """Return a front of three networks of equal true accuracies but for what is better of the run."""
    networks = []
    for sparsity in (0.5, 0.8, 0.9):
        verdicts = random.random((1, 2, 400)) < 0.6 + better
        measures = {"sparsity": sparsity, "robust_accuracy": float(verdicts[0, 0].mean())}
        networks.append(Network("", measures, verdicts))
    return Run("", tuple(networks), np.zeros((3, 2)), ("robust_accuracy", "sparsity"))
