from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from search.objectives import pareto
from search.samplers.ehvi.acquisition import (
    Chains,
    Staircase,
    by_sampling,
    expected,
    feasible,
    normal_draws,
    over_staircase,
)

FRONT = np.array([[0.0, 0.95], [0.2, 0.9], [0.5, 0.7], [0.5, 0.6], [0.8, 0.4], [0.3, 0.5], [0.9, 0.0]])
STAIRS = Staircase.of(FRONT[:, 0], FRONT[:, 1])


def chain(*points: tuple[float, ...]) -> Chains:
    """One candidate: known value, mean, deviation, and probability of being feasible where it is not 1."""
    rows = np.array([point if len(point) == 4 else (*point, 1.0) for point in points])
    return Chains(*(rows[None, :, column] for column in range(4)))


@pytest.mark.parametrize(("mean", "deviation", "best"), [(0.5, 0.1, 0.4), (0.3, 0.2, 0.6), (0.9, 0.01, 0.1)])
def test_expected_improvement_equals_its_integral(mean: float, deviation: float, best: float) -> None:
    integral = quad(lambda r: (r - best) * norm.pdf(r, mean, deviation), best, mean + 12 * deviation, limit=200)[0]
    assert expected(np.array(mean), np.array(deviation), np.array(best)) == pytest.approx(integral, abs=1e-9)


@pytest.mark.parametrize("floor", [0.2, 0.55, 0.7])
@pytest.mark.parametrize("best", [0.0, 0.5, 0.6])
def test_what_is_below_the_least_feasible_value_gains_nothing(floor: float, best: float) -> None:
    mean, deviation = 0.5, 0.1
    least = max(best, floor)
    integral = quad(lambda r: (r - best) * norm.pdf(r, mean, deviation), least, mean + 12 * deviation, limit=200)[0]
    found = expected(np.array(mean), np.array(deviation), np.array(best), floor)
    assert found == pytest.approx(integral, abs=1e-9)
    certain = expected(np.array([0.6, 0.54]), np.zeros(2), np.array(0.5), 0.55)
    assert certain == pytest.approx([0.1, 0.0])
    stairs = Staircase.of(np.array([1.0]), np.array([best]))
    assert over_staircase(chain((1.0, mean, deviation)), stairs, floor)[0, 0] == pytest.approx(integral, abs=1e-9)
    sampled = by_sampling(
        np.array([[mean, 1.0]]),
        np.array([[deviation, 0.0]]),
        np.zeros((1, 0)),
        np.zeros((1, 0)),
        np.array([[best, 1.0]]),
        normal_draws(4096, 2, 0),
        np.array([floor, -math.inf]),
    )
    assert sampled == pytest.approx(integral, rel=0.02, abs=1e-4)


def test_a_certain_value_improves_by_what_it_is_better() -> None:
    found = expected(np.array([0.5, 0.3]), np.zeros(2), np.array(0.4))
    assert found == pytest.approx([0.1, 0.0])


def test_the_staircase_is_the_front() -> None:
    assert STAIRS.edges.tolist() == [0.2, 0.5, 0.8]
    assert STAIRS.levels.tolist() == [0.9, 0.7, 0.4]
    assert STAIRS.at(np.array([0.1, 0.2, 0.3, 0.5, 0.8, 0.81])).tolist() == [0.9, 0.9, 0.7, 0.7, 0.4, 0.0]
    assert Staircase.of(np.array([]), np.array([])).at(np.array([0.3])).tolist() == [0.0]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=8),
    st.floats(0.01, 1),
    st.floats(-0.2, 1.2),
    st.floats(0.01, 0.5),
)
def test_one_point_gains_its_integral_over_the_steps(
    front: list[tuple[float, float]], known: float, mean: float, deviation: float
) -> None:
    points = np.array(front).reshape(-1, 2)
    stairs = Staircase.of(points[:, 0], points[:, 1])
    found = over_staircase(chain((known, mean, deviation)), stairs)[0, 0]
    ends = sorted({0.0, known, *(t for t in points[:, 0] if t < known)})
    total = 0.0
    for low, high in itertools.pairwise(ends):
        middle = (low + high) / 2
        best = max((r for t, r in front if t >= middle), default=0.0)
        near, far = (max(best, mean + side * deviation) for side in (-12, 12))
        total += (high - low) * quad(lambda r, b=best: (r - b) * norm.pdf(r, mean, deviation), near, far)[0]
    assert found == pytest.approx(total, abs=1e-6)


def test_one_point_gains_what_sampling_says() -> None:
    draws = norm.rvs(0.65, 0.15, size=20_000, random_state=0)
    before = pareto.hypervolume(FRONT)
    gains = [pareto.hypervolume([*FRONT.tolist(), [0.6, max(0.0, r)]]) - before for r in draws]
    found = over_staircase(chain((0.6, 0.65, 0.15)), STAIRS)[0, 0]
    assert found == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / math.sqrt(len(gains)))


def test_several_points_gain_at_least_what_is_said_and_more_than_the_best_alone() -> None:
    points = [(0.3, 0.85, 0.1), (0.6, 0.65, 0.1), (0.95, 0.2, 0.1)]
    after = over_staircase(chain(*points), STAIRS)[0]
    assert (np.diff(after) > 0).all()
    alone = [over_staircase(chain(point), STAIRS)[0, 0] for point in points]
    assert max(alone) < after[-1] < sum(alone)
    z = np.random.default_rng(0).standard_normal((4000, 3))
    before = pareto.hypervolume(FRONT)

    def sampled(draws: np.ndarray) -> np.ndarray:
        rows = [[[s, max(0.0, m + d * e)] for (s, m, d), e in zip(points, draw, strict=True)] for draw in draws]
        return np.array([pareto.hypervolume([*FRONT.tolist(), *row]) - before for row in rows])

    together, apart = sampled(np.repeat(z[:, :1], 3, axis=1)), sampled(z)
    spread = 4 * together.std() / math.sqrt(len(z))
    assert after[-1] < apart.mean() + spread
    # For points that rise and fall together the bound is tight.
    assert after[-1] == pytest.approx(together.mean(), rel=0.03, abs=spread)


def test_an_observed_or_infeasible_point_adds_nothing() -> None:
    one = over_staircase(chain((0.6, 0.65, 0.1)), STAIRS)[0, 0]
    after = over_staircase(chain((0.95, 0.9, 0.1, 0.0), (0.6, 0.65, 0.1), (0.6, 0.65, 0.1, 0.5)), STAIRS)[0]
    assert after == pytest.approx([0.0, one, one])
    assert over_staircase(chain((0.6, 0.65, 0.1, 0.25)), STAIRS)[0, 0] == pytest.approx(one / 4)


def test_candidates_are_judged_side_by_side_as_alone() -> None:
    draw = np.random.default_rng(1)
    many = Chains(*(draw.random((5, 4)) for _ in range(4)))
    found = over_staircase(many, STAIRS)
    for at in range(5):
        rows = Chains(*(part[at : at + 1] for part in (many.known, many.mean, many.deviation, many.likely)))
        assert found[at] == pytest.approx(over_staircase(rows, STAIRS)[0])


def test_sampling_agrees_with_the_closed_form_where_there_is_one() -> None:
    draws = normal_draws(1024, 2, 0)
    draws[:, 0] = 0.0
    front = FRONT[(FRONT > 0).all(axis=1)]
    found = by_sampling(
        np.array([[0.6, 0.65]]), np.array([[0.0, 0.15]]), np.zeros((1, 0)), np.zeros((1, 0)), front, draws
    )
    assert found == pytest.approx(over_staircase(chain((0.6, 0.65, 0.15)), STAIRS)[0, 0], rel=0.01)


def test_sampling_in_three_objectives_counts_feasible_draws_only() -> None:
    front = np.array([[0.5, 0.5, 0.5]])
    mean, certain = np.array([[0.6, 0.6, 0.6]]), np.zeros((1, 3))
    gain = 0.6**3 - 0.5**3
    draws = normal_draws(1024, 4, 0)
    assert by_sampling(mean, certain, np.array([[-0.1]]), np.zeros((1, 1)), front, draws) == pytest.approx(gain)
    half = by_sampling(mean, certain, np.zeros((1, 1)), np.ones((1, 1)), front, draws)
    assert half == pytest.approx(gain / 2, rel=0.01)


def test_feasibility_multiplies() -> None:
    violation, deviation = np.array([[0.0, -9.0], [-1.0, 0.5]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    assert feasible(violation, deviation) == pytest.approx([0.5, 0.0])
    assert feasible(np.zeros((3, 0)), np.zeros((3, 0))).tolist() == [1, 1, 1]


def test_draws_are_normal_and_even() -> None:
    draws = normal_draws(256, 3, 7)
    assert draws.mean(axis=0) == pytest.approx(np.zeros(3), abs=0.02)
    assert draws.std(axis=0) == pytest.approx(np.ones(3), abs=0.05)
    assert normal_draws(4, 0, 7).shape == (4, 0)
