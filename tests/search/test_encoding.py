from __future__ import annotations

from typing import Any

import pytest

from search.encoding import place
from search.sampling import distribution
from search.space import Categorical, FloatRange, IntRange


@pytest.mark.parametrize(
    ("share", "parameter", "value"),
    [
        (0.0, FloatRange(low=2, high=6), 2.0),
        (0.5, FloatRange(low=2, high=6), 4.0),
        (0.5, FloatRange(low=1e-6, high=1e-2, log=True), 1e-4),
        (0.999, FloatRange(low=0, high=1, step=0.25), 1.0),
        (0.0, IntRange(low=3, high=5), 3),
        (0.99, IntRange(low=3, high=5), 5),
        (0.5, IntRange(low=3, high=5), 4),
        (0.9, IntRange(low=0, high=6, step=3), 6),
        (0.0, IntRange(low=1, high=100, log=True), 1),
        (0.999, IntRange(low=1, high=100, log=True), 100),
        (0.34, Categorical(choices=("a", None, 3)), None),
    ],
)
def test_shares_are_placed_in_parameters(share: float, parameter: Any, value: Any) -> None:
    found = place(share, parameter)
    assert found == pytest.approx(value) if isinstance(value, float) else found == value
    assert parameter.contains(found)
    domain = distribution(parameter)
    assert domain._contains(domain.to_internal_repr(found))
