"""Which points a cheap measurement rules out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trainables.method.screening import Screen, Screening
from trainables.metrics import wilson

TWO = {"robust_accuracy": 0.5, "sparsity": 0.9}


def rules_out(front: list[dict[str, float]], robust: int, sparsity: float = 0.8, **settings: Any) -> bool:
    screen = Screen(front=tuple(front), **settings)
    return screen.rules_out({"sparsity": sparsity, "nonzero": 100.0}, robust, 100, 128)


def test_a_point_is_ruled_out_when_its_bound_is_dominated() -> None:
    correct = next(n for n in range(128, -1, -1) if wilson(n, 128, 2.3263)[1] < 0.5)
    assert rules_out([TWO], correct)
    assert not rules_out([TWO], correct + 1)
    assert not rules_out([TWO], 0, sparsity=0.91), "sparser than all of the front"
    assert not rules_out([], 0)
    assert rules_out([TWO], correct, confidence=0.9)
    assert rules_out([TWO], correct + 3, confidence=0.5)


def test_to_be_as_good_everywhere_is_not_to_be_better() -> None:
    bound = wilson(40, 128, 2.3263478740408408)[1]
    assert not rules_out([{"robust_accuracy": bound, "sparsity": 0.8}], 40)
    assert rules_out([{"robust_accuracy": bound, "sparsity": 0.81}], 40)


def test_counts_are_better_when_smaller() -> None:
    assert rules_out([{"robust_accuracy": 0.5, "nonzero": 99.0}], 20)
    assert not rules_out([{"robust_accuracy": 0.5, "nonzero": 101.0}], 20)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=6),
    st.integers(0, 128),
    st.floats(0, 1),
    st.integers(0, 128),
)
def test_what_is_ruled_out_stays_so_when_the_front_grows_and_fewer_are_correct(
    front: list[tuple[float, float]], robust: int, sparsity: float, fewer: int
) -> None:
    points = [{"robust_accuracy": r, "sparsity": s} for r, s in front]
    if rules_out(points, robust, sparsity):
        assert rules_out([*points, TWO], robust, sparsity)
        assert rules_out(points, min(fewer, robust), sparsity)
        upper = wilson(robust, 128, 2.3263)[1]
        assert any(r >= upper - 1e-4 and s >= sparsity for r, s in front)


@pytest.mark.parametrize("wrong", [{"examples": 0}, {"steps": 0}, {"confidence": 1}, {"confidence": 0.4}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Screening.model_validate(wrong)
