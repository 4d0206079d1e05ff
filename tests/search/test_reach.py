"""The chance to reach the front: the forecast against closed forms, and whom it stops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.reach import NOISE, NOISE_WEIGHT, OFFSET_ERROR, SLOPE_ERROR, Array, Reaching, foretell
from search.scheduling import Reach, Report

TWO = ("robust_accuracy", "sparsity")
SHARE = st.floats(0, 1)
ROW = st.tuples(st.floats(-0.3, 0.8), st.floats(-0.3, 0.8), st.floats(0.01, 1))


def dual(now: float, before: Array, after: Array, weight: Array, noise: float) -> tuple[float, float]:
    """The same regression as a Gaussian process: condition the joint normal of all shortfalls on the examples."""
    inputs = np.stack([np.ones(len(before)), before], axis=1)
    spread = np.diag([OFFSET_ERROR**2, SLOPE_ERROR**2])
    at, believed = np.array([1.0, now]), np.array([0.0, 1.0])
    covariance = inputs @ spread @ inputs.T + noise * np.diag(1 / weight)
    gain = at @ spread @ inputs.T @ np.linalg.inv(covariance)
    mean = at @ believed + gain @ (after - inputs @ believed)
    return float(mean), float(at @ spread @ at - gain @ inputs @ spread @ at + noise)


@given(st.floats(-0.3, 0.8), st.lists(ROW, min_size=1, max_size=8))
def test_the_forecast_is_the_conditional_normal_with_the_noise_that_was_found(
    now: float, rows: list[tuple[float, float, float]]
) -> None:
    before, after, weight = np.array(rows).T
    inputs = np.stack([np.ones(len(before)), before], axis=1)
    found = foretell(now, before, after, weight)
    first, _ = dual(now, before, after, weight, NOISE**2)
    assert found.freedom == pytest.approx(weight.sum() + NOISE_WEIGHT)
    # The noise of the second pass is that of the first pass's line, which two forecasts pin down.
    offset, _ = dual(0.0, before, after, weight, NOISE**2)
    slope = dual(1.0, before, after, weight, NOISE**2)[0] - offset
    assert first == pytest.approx(offset + slope * now)
    misses = after - inputs @ np.array([offset, slope])
    noise = (weight @ misses**2 + NOISE_WEIGHT * NOISE**2) / found.freedom
    mean, _ = dual(now, before, after, weight, noise)
    assert found.mean == pytest.approx(mean, abs=1e-9)


def test_without_examples_a_shortfall_is_believed_to_stay() -> None:
    nothing = np.empty(0)
    none, some, much = (foretell(now, nothing, nothing, nothing) for now in (0.0, 0.1, 0.4))
    assert [none.mean, some.mean, much.mean] == pytest.approx([0.0, 0.1, 0.4])
    assert none.chance() == pytest.approx(0.5)
    assert 0.5 > some.chance() > 0.1 > much.chance() > 0.0
    assert none.error < some.error < much.error, "the further off, the less is known"


def test_with_examples_the_error_shrinks_and_the_line_is_found() -> None:
    draws = np.random.default_rng(0)
    before = draws.uniform(0, 0.5, 60)
    after = 0.02 + 0.3 * before + draws.normal(0, 0.01, 60)
    few, many = (foretell(0.3, before[:n], after[:n], np.ones(n)) for n in (3, 60))
    assert many.mean == pytest.approx(0.11, abs=0.01)
    assert many.error < few.error < foretell(0.3, before[:0], after[:0], np.ones(0)).error


ROWS = st.lists(st.tuples(SHARE, SHARE, SHARE), min_size=1, max_size=6)


@settings(deadline=None)
@given(ROWS, ROWS)
def test_a_shortfall_is_what_makes_up_for_every_rival_as_sparse(
    ours: list[tuple[float, ...]], rivals: list[tuple[float, ...]]
) -> None:
    search = Reaching(("robust_accuracy", "clean_accuracy", "sparsity"), 0.1, 1)
    zeros = np.zeros(len(ours)), np.zeros(len(rivals))
    for row, short in zip(ours, search._shortfalls(np.array(ours), zeros[0], np.array(rivals), zeros[1]), strict=True):
        as_sparse = [rival for rival in rivals if rival[2] >= row[2]]
        assert np.isfinite(short) == bool(as_sparse)
        if as_sparse:

            def beaten(added: float, row: tuple[float, ...] = row, rivals: list[tuple[float, ...]] = as_sparse) -> bool:
                return any(all(r[i] > row[i] + added for i in (0, 1)) for r in rivals)

            assert not beaten(short + 1e-9)
            assert beaten(short - 1e-9)


def dense(robust: float, *ahead: float, share: float = 0.25, excess: float = 0.0, resource: int = 5) -> Report:
    return Report(resource, (robust, 0.0), 0.0, ahead, share, 0, excess)


def end(robust: float, sparsity: float, done: int = 1, ahead: tuple[float, ...] = ()) -> Report:
    return Report(20, (robust, sparsity), sparsity, ahead, 1.0, done)


def trained(search: Reaching, pairs: list[tuple[float, float]], sparsity: float = 0.9) -> None:
    """Complete trials that showed the first accuracy halfway and the second at the end."""
    for number, (early, late) in enumerate(pairs):
        search.replay(number, [dense(early, sparsity), end(late, sparsity)], "complete")


def reaching(**settings: object) -> Reaching:
    search = Reach.model_validate({"evidence": 4, "chance": 0.1, **settings}).build(TWO)
    assert isinstance(search, Reaching)
    return search


def test_who_falls_far_behind_is_stopped_and_who_is_near_goes_on() -> None:
    search = reaching()
    trained(search, [(0.6, 0.5), (0.58, 0.47), (0.55, 0.45), (0.5, 0.4)])
    assert search.report(10, dense(0.2, 0.9))
    assert not search.report(11, dense(0.59, 0.9))
    assert not search.report(12, dense(0.2, 0.95)), "nobody else aims at as sparse a network"
    assert search.report(13, dense(0.2, 0.5, 0.75, 0.89))


def test_nothing_is_foretold_on_too_little_evidence_and_one_network_is_one_witness() -> None:
    search = reaching()
    trained(search, [(0.6, 0.5)] * 3)
    assert not search.report(10, dense(0.1, 0.9))
    trained(search, [(0.6, 0.5)] * 8)
    assert not search.report(11, dense(0.1, 0.9)), "eight trials from one stored stage"
    other = reaching(evidence=1)
    trained(other, [(0.6, 0.5)])
    assert other.report(10, dense(0.1, 0.9))
    assert not other.report(11, dense(0.1, 0.9, share=0.5)), "nobody has been there"


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
    low = dense(0.35, 0.5, 0.9, share=1.0)
    at_half, at_ninety = search.chances(20, low)
    assert at_half < 0.1 < at_ninety
    assert not search.report(20, low)
    assert search.report(21, dense(0.35, 0.5, share=1.0))


def test_a_constraint_that_nobody_meets_yet_stops_nobody() -> None:
    search = reaching()
    for number in range(5):
        search.replay(number, [dense(0.3 + number / 100, 0.9, excess=0.4), end(0.5, 0.9)], "complete")
    assert not search.report(10, dense(0.33, 0.9, excess=0.4))
    assert search.report(11, dense(0.33, 0.9, excess=0.9)), "further from it than all others, and by much"


def test_accuracies_alone_have_nothing_that_is_known_beforehand() -> None:
    search = Reach(evidence=2, chance=0.1).build(("robust_accuracy", "clean_accuracy"))
    for number, robust in enumerate([0.6, 0.55, 0.5]):
        reports = [Report(5, (robust, 0.9), 0.0, (0.0,), 0.25), Report(20, (robust, 0.95), 0.0, (), 1.0, 0)]
        search.replay(number, reports, "complete")
    assert search.report(10, Report(5, (0.1, 0.5), 0.0, (0.0,), 0.25))
    assert not search.report(11, Report(5, (0.1, 0.93), 0.0, (0.0,), 0.25))


def test_objectives_that_follow_from_the_sparsity_give_no_reason_to_stop() -> None:
    search = Reach(evidence=1).build(("sparsity", "nonzero"))
    search.replay(0, [Report(5, (0.0, 0.0), 0.0, (0.9,), 0.25), Report(9, (0.9, 0.9), 0.9)], "complete")
    assert not search.report(1, Report(5, (0.0, 0.0), 0.0, (0.5,), 0.25))
