from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.objectives import pareto

GRID = st.integers(0, 4).map(lambda i: i / 4)
"""A coarse grid: ties and duplicates are the rule."""


def tables(objectives: int, size: int = 14) -> st.SearchStrategy[list[list[float]]]:
    unit = st.floats(0, 1, allow_nan=False, width=32)
    return st.lists(st.lists(GRID | unit, min_size=objectives, max_size=objectives), max_size=size)


def brute(values: list[list[float]]) -> list[bool]:
    def beats(a: list[float], b: list[float]) -> bool:
        return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))

    return [not any(beats(other, point) for other in values) for point in values]


@given(st.integers(1, 4).flatmap(tables))
def test_front_equals_brute_force(values: list[list[float]]) -> None:
    assert pareto.nondominated(values) == brute(values)


@given(st.integers(1, 3).flatmap(tables), st.randoms(use_true_random=False))
def test_front_does_not_depend_on_order(values: list[list[float]], random: object) -> None:
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    kept = pareto.nondominated(values)
    assert pareto.nondominated([values[i] for i in order]) == [kept[i] for i in order]


def test_duplicates_and_ties_are_kept() -> None:
    values = [[0.5, 0.5], [0.5, 0.5], [0.5, 0.4], [0.6, 0.4], [0.6, 0.4], [0.1, 0.1]]
    assert pareto.nondominated(values) == [True, True, False, True, True, False]


def test_points_without_values_neither_stay_nor_beat() -> None:
    values = [[0.5, 0.5], None, [float("nan"), 1.0], [float("inf"), 1.0], [0.4, 0.6], [0.4, 0.5]]
    assert pareto.front(values) == [True, False, False, False, True, False]
    assert pareto.front([None, None]) == [False, False]


@pytest.mark.parametrize(
    ("values", "volume"),
    [
        ([], 0.0),
        ([[0.5]], 0.5),
        ([[0.5, 0.5]], 0.25),
        ([[0.5, 0.5], [0.5, 0.5]], 0.25),
        ([[1.0, 0.5], [0.5, 1.0]], 0.75),
        ([[1.0, 0.0], [0.0, 1.0]], 0.0),
        ([[1.0, 1.0, 1.0]], 1.0),
        ([[0.5, 1.0, 1.0], [1.0, 0.5, 1.0], [1.0, 1.0, 0.5]], 0.875),
        ([[-1.0, 0.5], [0.5, 0.5]], 0.25),
        # A staircase of n steps below the diagonal covers n (n - 1) / 2 cells.
        ([[i / 10, (10 - i) / 10] for i in range(11)], 0.45),
    ],
)
def test_hypervolume_closed_forms(values: list[list[float]], volume: float) -> None:
    assert pareto.hypervolume(values) == pytest.approx(volume, abs=1e-12)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_hypervolume_against_monte_carlo(objectives: int) -> None:
    generator = np.random.default_rng(objectives)
    values = generator.random((12, objectives))
    samples = generator.random((100_000, objectives))
    covered = (samples[:, None, :] <= values[None]).all(-1).any(-1).mean()
    # Five standard errors of a proportion of 100,000 draws are at most 0.008.
    assert pareto.hypervolume(values.tolist()) == pytest.approx(covered, abs=0.008)


@given(tables(2), st.tuples(GRID, GRID))
def test_hypervolume_grows_with_points(values: list[list[float]], point: tuple[float, float]) -> None:
    before = pareto.hypervolume(values)
    after = pareto.hypervolume([*values, list(point)])
    assert 0 <= before <= after + 1e-12
    assert after <= 1 + 1e-12
    if any(other[0] >= point[0] and other[1] >= point[1] for other in values):
        assert after == pytest.approx(before, abs=1e-12)


@pytest.mark.slow
@settings(max_examples=50)
@given(st.integers(1, 3).flatmap(lambda n: tables(n, 8)))
def test_contribution_is_what_removal_costs(values: list[list[float]]) -> None:
    kept = [point for point, keep in zip(values, brute(values), strict=True) if keep]
    total = pareto.hypervolume(kept)
    lost = [total - pareto.hypervolume(kept[:i] + kept[i + 1 :]) for i in range(len(kept))]
    assert pareto.contributions(kept) == pytest.approx(lost, abs=1e-9)


@given(tables(3))
def test_dominated_points_contribute_nothing(values: list[list[float]]) -> None:
    shares = pareto.contributions(values)
    assert all(share == 0 for share, keep in zip(shares, brute(values), strict=True) if not keep)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=30))
def test_an_archive_is_the_front_of_all_that_came(points: list[tuple[int, int]]) -> None:
    values = [[a / 5, b / 5] for a, b in points]
    archive = pareto.Archive()
    for index, point in enumerate(values):
        kept = archive.add(str(index), point)
        assert kept == pareto.nondominated(values[: index + 1])[index]
        assert archive.add(str(index), [1.0, 1.0]) == kept, "a known name counts once"
    assert sorted(archive.front) == sorted(str(i) for i, kept in enumerate(pareto.nondominated(values)) if kept)
    assert archive.hypervolume() == pytest.approx(pareto.hypervolume(values))


def test_the_knee_is_the_point_farthest_from_the_chord() -> None:
    front = [(1.0, 0.0), (0.9, 0.5), (0.8, 0.9), (0.5, 0.95), (0.0, 1.0)]
    a, b = np.array(front[0]), np.array(front[-1])
    normal = np.array([b[1] - a[1], a[0] - b[0]]) / np.linalg.norm(b - a)
    assert pareto.knee(front) == max(range(5), key=lambda at: float((np.array(front[at]) - a) @ normal)) == 2
    # Stretching an objective moves nothing.
    assert pareto.knee([(x, 0.01 * y + 0.3) for x, y in front]) == 2


@pytest.mark.parametrize(
    "front",
    [[], [(0.5, 0.5)], [(1.0, 0.0), (0.0, 1.0)], [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)], [(1, 0), (0.3, 0.3), (0, 1)]],
)
def test_a_front_that_is_short_straight_or_hollow_has_no_knee(front: list[tuple[float, float]]) -> None:
    assert pareto.knee(front) is None


def test_three_objectives_have_a_knee_and_one_has_none() -> None:
    front = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.6, 0.6, 0.6), (0.7, 0.7, 0.1)]
    assert pareto.knee(front) == 3
    assert pareto.knee([(0.5,), (0.5,), (0.5,)]) is None
