from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.core.errors import SpecError
from trainables.data.splits import carve, check_classes, draw, limited, quotas

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


@given(st.lists(st.integers(2, 40), min_size=2, max_size=6), st.data())
def test_a_class_without_images_is_refused_with_a_number_that_works(counts: list[int], data: st.DataObject) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    validation = data.draw(st.integers(len(counts), len(labels) - 1))
    if message := _refusal(labels, validation):
        assert message.startswith(f"validation: {validation} leaves no image of the class '")
        works = _advised(message)
        near = abs(works - validation) if works else len(labels)
        assert works is None or _refusal(labels, works) is None
        others = [n for n in range(len(counts), len(labels)) if abs(n - validation) < near]
        assert all(_refusal(labels, other) for other in others)
        return
    limit = data.draw(st.integers(1, len(labels) - validation))
    if message := _refusal(labels, validation, limit):
        assert message.startswith(f"limit: {limit} leaves no image of the class '")
        works = _advised(message)
        assert works is not None
        assert _refusal(labels, validation, works) is None, "by rounding, this may be a smaller number"


def _refusal(labels: np.ndarray, validation: int, limit: int | None = None) -> str | None:
    """Return why a split is refused; None where each class has images on both sides, which is checked."""
    left, held_out = carve(labels, validation, 0)
    trained = limited(labels, left, limit, 0)
    try:
        check_classes(labels, held_out, trained, limit, tuple("abcdef"[: labels.max() + 1]))
    except SpecError as error:
        return str(error)
    assert set(labels[trained]) == set(labels[held_out]) == set(labels)
    return None


def _advised(message: str) -> int | None:
    advice = message.split("; ")[1]
    return int(advice.split()[0]) if advice[0].isdigit() else None


def test_a_class_of_one_image_is_refused_by_name() -> None:
    labels = np.array([0] * 9 + [1])
    left, held_out = carve(labels, 5, 0)
    with pytest.raises(SpecError, match="the class 'rare' has one image; a class needs two"):
        check_classes(labels, held_out, left, None, ("often", "rare"))


def test_the_nearest_number_is_found_far_away_too() -> None:
    labels = np.repeat(np.arange(2), (99_990, 10))
    left, held_out = carve(labels, 100, 0)
    with pytest.raises(SpecError, match=r"validation: 100 leaves no image of the class 'b' .*; \d+ is the nearest"):
        check_classes(labels, held_out, left, None, ("a", "b"))
