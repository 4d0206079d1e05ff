"""The chance to reach the front: the forecast against closed forms, and whom it stops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.early_stopping.base import Measurement
from search.early_stopping.reach import Reach
from search.early_stopping.shortfall import NOISE, NOISE_WEIGHT, OFFSET_ERROR, SLOPE_ERROR, Array, ReachRule, predict

TWO = ("robust_accuracy", "sparsity")
SHARE = st.floats(0, 1)
ROW = st.tuples(st.floats(-0.3, 0.8), st.floats(-0.3, 0.8), st.floats(0.01, 1))


def dual(now: float, before: Array, after: Array, weight: Array, noise: float) -> tuple[float, float]:
    """The same regression as a Gaussian process: condition the joint normal of all shortfalls on the examples."""
    inputs = np.stack([np.ones(len(before)), before], axis=1)
    spread = np.diag([OFFSET_ERROR**2, SLOPE_ERROR**2])
    at, expected = np.array([1.0, now]), np.array([0.0, 1.0])
    covariance = inputs @ spread @ inputs.T + noise * np.diag(1 / weight)
    gain = at @ spread @ inputs.T @ np.linalg.inv(covariance)
    mean = at @ expected + gain @ (after - inputs @ expected)
    return float(mean), float(at @ spread @ at - gain @ inputs @ spread @ at + noise)


@given(st.floats(-0.3, 0.8), st.lists(ROW, min_size=1, max_size=8))
def test_the_forecast_is_the_conditional_normal_with_the_noise_that_was_found(
    now: float, rows: list[tuple[float, float, float]]
) -> None:
    before, after, weight = np.array(rows).T
    inputs = np.stack([np.ones(len(before)), before], axis=1)
    found = predict(np.array([now]), before, after, weight)
    first, _ = dual(now, before, after, weight, NOISE**2)
    assert found.freedom == pytest.approx(weight.sum() + NOISE_WEIGHT)
    # The noise of the second pass is that of the first pass's line, which two forecasts pin down.
    offset, _ = dual(0.0, before, after, weight, NOISE**2)
    slope = dual(1.0, before, after, weight, NOISE**2)[0] - offset
    assert first == pytest.approx(offset + slope * now)
    misses = after - inputs @ np.array([offset, slope])
    noise = (weight @ misses**2 + NOISE_WEIGHT * NOISE**2) / found.freedom
    mean, _ = dual(now, before, after, weight, noise)
    assert found.mean[0] == pytest.approx(mean, abs=1e-9)


def test_several_are_predicted_as_each_alone() -> None:
    draws = np.random.default_rng(1)
    examples = draws.uniform(0, 0.5, 9), draws.uniform(0, 0.5, 9), draws.uniform(0, 1, 9)
    now = draws.uniform(0, 0.5, 4)
    together = predict(now, *examples)
    alone = [predict(now[i : i + 1], *examples) for i in range(4)]
    assert together.mean == pytest.approx([one.mean[0] for one in alone])
    assert together.error == pytest.approx([one.error[0] for one in alone])
    assert together.reaches() == pytest.approx([one.reaches()[0] for one in alone])


def test_without_examples_a_shortfall_is_predicted_to_stay() -> None:
    nothing = np.empty(0)
    found = predict(np.array([0.0, 0.1, 0.4]), nothing, nothing, nothing)
    assert found.mean == pytest.approx([0.0, 0.1, 0.4])
    none, some, much = found.reaches()
    assert none == pytest.approx(0.5)
    assert 0.5 > some > 0.1 > much > 0.0
    assert list(found.error) == sorted(found.error), "the further off, the less is known"


def test_with_examples_the_error_shrinks_and_the_line_is_found() -> None:
    draws = np.random.default_rng(0)
    before = draws.uniform(0, 0.5, 60)
    after = 0.02 + 0.3 * before + draws.normal(0, 0.01, 60)
    none, few, many = (predict(np.array([0.3]), before[:n], after[:n], np.ones(n)) for n in (0, 3, 60))
    assert many.mean[0] == pytest.approx(0.11, abs=0.01)
    assert many.error[0] < few.error[0] < none.error[0]


ROWS = st.lists(st.tuples(SHARE, SHARE, SHARE), min_size=1, max_size=6)


@settings(deadline=None)
@given(ROWS, ROWS)
def test_a_shortfall_is_what_makes_up_for_every_rival_as_sparse(
    ours: list[tuple[float, ...]], rivals: list[tuple[float, ...]]
) -> None:
    search = ReachRule(("robust_accuracy", "clean_accuracy", "sparsity"), 0.5, 1)
    zeros = np.zeros(len(ours)), np.zeros(len(rivals))
    for row, short in zip(ours, search._shortfalls(np.array(ours), zeros[0], np.array(rivals), zeros[1]), strict=True):
        as_sparse = [rival for rival in rivals if rival[2] >= row[2]]
        assert np.isfinite(short) == bool(as_sparse)
        if as_sparse:

            def beaten(added: float, row: tuple[float, ...] = row, rivals: list[tuple[float, ...]] = as_sparse) -> bool:
                return any(all(r[i] > row[i] + added for i in (0, 1)) for r in rivals)

            assert not beaten(short + 1e-9)
            assert beaten(short - 1e-9)


def dense(
    robust: float, *ahead: float, share: float = 0.25, violation: float = 0.0, left: float = 1.0, resource: int = 5
) -> Measurement:
    return Measurement(resource, (robust, 0.0), 0.0, ahead, share, 0, violation, left)


def end(robust: float, sparsity: float, done: int = 1, ahead: tuple[float, ...] = ()) -> Measurement:
    return Measurement(20, (robust, sparsity), sparsity, ahead, 1.0, done)


def trained(search: ReachRule, pairs: list[tuple[float, float]], sparsity: float = 0.9, first: int = 100) -> None:
    """Complete trials that showed the first accuracy halfway and the second at the end."""
    for number, (early, late) in enumerate(pairs, first):
        search.replay(number, [dense(early, sparsity), end(late, sparsity)], "complete")


def reaching(**settings: object) -> ReachRule:
    search = Reach.model_validate({"evidence": 4, **settings}).build(TWO)
    assert isinstance(search, ReachRule)
    return search


STEADY = [(0.6, 0.5), (0.58, 0.48), (0.55, 0.45), (0.5, 0.4)]


def test_a_trial_far_behind_is_stopped_and_one_near_continues() -> None:
    search = reaching()
    trained(search, STEADY)
    assert search.report(10, dense(0.2, 0.9))
    assert not search.report(11, dense(0.59, 0.9))
    assert not search.report(12, dense(0.2, 0.95)), "no other trial is to be as sparse"
    assert search.report(13, dense(0.2, 0.5, 0.75, 0.89))


def test_a_trial_with_few_epochs_left_continues_at_a_probability_that_stops_a_new_one() -> None:
    def chances(robust: float) -> tuple[float, float]:
        search = reaching()
        trained(search, STEADY)
        return search.probabilities(10, dense(robust, 0.9))

    robust = next(r / 100 for r in range(60, 0, -1) if chances(r / 100)[0] < 0.4 * chances(r / 100)[1])
    mine, others = chances(robust)
    verdicts = {}
    for left in (1.0, 0.5, 0.1):
        search = reaching(worth=0.5)
        trained(search, STEADY)
        verdicts[left] = search.report(10, dense(robust, 0.9, left=left))
    assert verdicts == {left: mine < 0.5 * others * left for left in verdicts}
    assert set(verdicts.values()) == {True, False}


def test_as_the_front_closes_no_trial_needs_a_probability_that_none_has() -> None:
    """When the best have been found, every trial's chance is small; the better ones go on nevertheless."""
    search = reaching()
    draws = np.random.default_rng(0)
    trained(search, [(early, early - 0.1 + draws.normal(0, 0.03)) for early in draws.uniform(0.5, 0.6, 40)])
    trained(search, [(0.62, 0.58)], first=200)
    going = {}
    for number, robust in enumerate((0.51, 0.53, 0.57, 0.59)):
        assert search.probabilities(number, dense(robust, 0.9))[0] < 0.2
        going[robust] = not search.report(number, dense(robust, 0.9))
    assert going == {0.51: False, 0.53: False, 0.57: True, 0.59: True}


def test_too_little_evidence_stops_no_trial_and_one_network_counts_once() -> None:
    search = reaching()
    trained(search, [(0.6, 0.5)] * 3)
    assert not search.report(10, dense(0.1, 0.9))
    trained(search, [(0.6, 0.5)] * 8, first=200)
    assert not search.report(11, dense(0.1, 0.9)), "eight trials from one stored stage"
    other = reaching(evidence=1)
    trained(other, [(0.6, 0.5)])
    assert other.report(10, dense(0.1, 0.9))
    assert not other.report(11, dense(0.1, 0.9, share=0.5)), "no other trial was at this stage"


def test_it_is_learnt_where_late_starters_catch_up() -> None:
    """Halfway through, the eventual winners are those behind: a shortfall there says nothing."""
    slow = [(0.6, 0.3), (0.5, 0.35), (0.4, 0.4), (0.3, 0.45), (0.25, 0.47), (0.35, 0.44), (0.45, 0.38), (0.55, 0.33)]
    search = reaching()
    trained(search, slow)
    assert not search.report(20, dense(0.2, 0.9))
    steady = reaching()
    trained(steady, [(early, early - 0.1) for early, _ in slow])
    assert steady.report(20, dense(0.2, 0.9))


def test_one_sparsity_to_come_that_is_in_reach_keeps_a_trial_going() -> None:
    """All that ever went on to 0.9 ended alike there, however far apart they were at 0.5."""
    search = reaching()
    for number, early in enumerate([0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.75, 0.65]):
        ladder = [dense(early, 0.5, 0.9, share=1.0), end(early, 0.5, 1, (0.9,)), end(0.2 + number / 1000, 0.9, 2)]
        search.replay(number, ladder, "complete")
    assert not search.report(20, dense(0.35, 0.5, 0.9, share=1.0))
    assert search.report(21, dense(0.35, 0.5, share=1.0))


def test_a_constraint_that_no_trial_meets_yet_stops_none() -> None:
    search = reaching()
    for number in range(5):
        search.replay(number, [dense(0.3 + number / 100, 0.9, violation=0.4), end(0.5, 0.9)], "complete")
    assert not search.report(10, dense(0.33, 0.9, violation=0.4))
    assert search.report(11, dense(0.33, 0.9, violation=0.9)), "further from it than all others, and by much"


def test_accuracies_alone_have_nothing_that_is_known_beforehand() -> None:
    search = Reach(evidence=2).build(("robust_accuracy", "clean_accuracy"))
    for number, robust in enumerate([0.6, 0.55, 0.5]):
        reports = [Measurement(5, (robust, 0.9), 0.0, (0.0,), 0.25), Measurement(20, (robust, 0.95), 0.0, (), 1.0, 0)]
        search.replay(number, reports, "complete")
    assert search.report(10, Measurement(5, (0.1, 0.5), 0.0, (0.0,), 0.25))
    assert not search.report(11, Measurement(5, (0.1, 0.93), 0.0, (0.0,), 0.25))


def test_objectives_that_follow_from_the_sparsity_give_no_reason_to_stop() -> None:
    search = Reach(evidence=1).build(("sparsity", "nonzero"))
    search.replay(0, [Measurement(5, (0.0, 0.0), 0.0, (0.9,), 0.25), Measurement(9, (0.9, 0.9), 0.9)], "complete")
    assert not search.report(1, Measurement(5, (0.0, 0.0), 0.0, (0.5,), 0.25))
