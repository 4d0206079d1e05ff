"""Phases as data."""

from __future__ import annotations

import pytest

from trainables.method.phases import Train
from trainables.method.training import Training


@pytest.mark.parametrize(
    ("penalty_steps", "until", "factor"), [(None, None, 1.0), (200, None, 4.0), (25, None, 0.5), (200, 2, 4.0)]
)
def test_penalties_are_scaled_by_the_steps_of_the_whole_training(
    penalty_steps: int | None, until: int | None, factor: float
) -> None:
    """A training in parts has the steps of both, so that its parts are one."""
    phase = Train(epochs=5, until=until, training=Training(), penalty_steps=penalty_steps)
    assert phase.penalty_factor(10) == factor
