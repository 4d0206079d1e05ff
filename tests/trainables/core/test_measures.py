from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from trainables.core.measures import wilson


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(pair: tuple[int, int]) -> None:
    correct, examples = pair
    expected = binomtest(correct, examples).proportion_ci(confidence_level=0.95, method="wilson")
    low, high = wilson(correct, examples)
    assert low == pytest.approx(expected.low, abs=1e-12)
    assert high == pytest.approx(expected.high, abs=1e-12)
    assert 0 <= low <= correct / examples <= high <= 1


@pytest.mark.parametrize(
    ("correct", "examples", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3, to the digits given there.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_the_published_one(correct: int, examples: int, low: float, high: float) -> None:
    assert wilson(correct, examples) == pytest.approx((low, high), abs=5e-5)


def test_wilson_narrows_with_examples_and_widens_with_z() -> None:
    def width(pair: tuple[float, float]) -> float:
        return pair[1] - pair[0]

    assert width(wilson(43, 100)) / 2 == pytest.approx(0.095, abs=5e-4)
    assert width(wilson(4300, 10_000)) < width(wilson(430, 1000)) < width(wilson(43, 100))
    assert width(wilson(43, 100, z=2.576)) > width(wilson(43, 100))


@pytest.mark.parametrize(("correct", "examples"), [(0, 0), (-1, 5), (6, 5), (0, -1)])
def test_what_is_no_proportion_is_refused(correct: int, examples: int) -> None:
    with pytest.raises(ValueError, match="is not a proportion"):
        wilson(correct, examples)
