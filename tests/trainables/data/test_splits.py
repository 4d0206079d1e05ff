from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.core.errors import SpecError
from trainables.data.splits import carve, draw, limited, quotas

COUNTS = st.lists(st.integers(0, 60), min_size=1, max_size=12).filter(lambda counts: sum(counts) > 0)


@given(COUNTS, st.data())
def test_quotas_are_largest_remainders(counts: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(counts)))
    shares = quotas(np.array(counts), total)
    assert shares.sum() == total
    exact = [Fraction(count * total, sum(counts)) for count in counts]
    assert all(
        share <= count and abs(share - quota) < 1 for share, count, quota in zip(shares, counts, exact, strict=True)
    )
    up = [quota - int(quota) for share, quota in zip(shares, exact, strict=True) if share > int(quota)]
    down = [quota - int(quota) for share, quota in zip(shares, exact, strict=True) if share == int(quota)]
    assert not up or not down or min(up) >= max(down)


@given(COUNTS, st.data())
def test_carving_is_exact_disjoint_and_stratified(counts: list[int], data: st.DataObject) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    classes = len(np.unique(labels))
    if len(labels) <= classes:
        with pytest.raises(SpecError):
            carve(labels, classes, 0)
        return
    validation = data.draw(st.integers(classes, len(labels) - 1))
    seed = data.draw(st.integers(0, 3))
    left, held_out = carve(labels, validation, seed)
    assert len(held_out) == validation
    assert sorted([*left, *held_out]) == list(range(len(labels)))
    assert np.all(np.diff(left) > 0)
    assert np.array_equal(np.bincount(labels[held_out], minlength=len(counts)), quotas(np.array(counts), validation))
    again = carve(labels, validation, seed)
    assert np.array_equal(again[0], left)
    assert np.array_equal(again[1], held_out)


def test_seeds_give_other_splits() -> None:
    labels = np.arange(200) % 10
    assert set(carve(labels, 50, 0)[1]) != set(carve(labels, 50, 1)[1])


def test_validation_order_is_a_fair_sample() -> None:
    """With labels in blocks, the first 200 of the split hold every class about equally often."""
    labels = np.repeat(np.arange(10), 500)
    held_out = carve(labels, 1000, 0)[1]
    counts = np.bincount(labels[held_out[:200]], minlength=10)
    # Hypergeometric: 20 with a standard deviation of 3.8.
    assert counts.min() >= 6
    assert counts.max() <= 34
    assert not np.array_equal(held_out, np.sort(held_out))


def test_limit_is_stratified_and_repeatable() -> None:
    labels = np.repeat(np.arange(4), (100, 50, 30, 20))
    left, _ = carve(labels, 20, 0)
    some = limited(labels, left, 90, 0)
    assert len(some) == 90
    assert set(some) <= set(left)
    assert np.bincount(labels[some]).tolist() == quotas(np.bincount(labels[left]), 90).tolist()
    assert np.array_equal(some, limited(labels, left, 90, 0))
    assert np.array_equal(limited(labels, left, None, 0), left)
    assert np.array_equal(limited(labels, left, len(left), 0), left)


@pytest.mark.parametrize(
    ("validation", "words"), [(200, "none to train on"), (500, "none to train on"), (9, "10 classes")]
)
def test_impossible_validation_is_refused(validation: int, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        carve(np.arange(200) % 10, validation, 0)


def test_limit_beyond_what_is_left_is_refused() -> None:
    labels = np.arange(200) % 10
    left, _ = carve(labels, 50, 0)
    with pytest.raises(SpecError, match=r"limit: 151, but only 150"):
        limited(labels, left, 151, 0)


def test_known_draw() -> None:
    """Pin the draw: another one would give stored studies another split."""
    assert draw(np.arange(40) % 2, 6, "golden").tolist() == [23, 38, 10, 29, 33, 0]
