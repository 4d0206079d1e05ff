"""Learning-rate schedules against their closed forms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trainables.method.schedules import SCHEDULES, Constant, Cosine, OneCycle, Schedule, Step


@pytest.mark.parametrize("schedule", [Constant(warmup=4), Cosine(warmup=4), Step(warmup=4)])
def test_the_warm_up_rises_linearly_from_0(schedule: Schedule) -> None:
    assert [schedule.factor(epoch, 20) for epoch in (0, 1, 2.5, 4)] == [0, 0.25, 0.625, 1]


def test_cosine_falls_from_the_warm_up_to_its_final_factor() -> None:
    schedule = Cosine(warmup=2, final=0.1)
    for epoch in (2, 5.5, 7, 11, 12):
        expected = 0.1 + 0.9 * (1 + math.cos(math.pi * (epoch - 2) / 10)) / 2
        assert schedule.factor(epoch, 12) == pytest.approx(expected)
    assert schedule.factor(13, 12) == pytest.approx(0.1)


def test_step_falls_at_parts_of_the_training() -> None:
    schedule = Step(at=(0.3, 0.75), gamma=0.5)
    assert [schedule.factor(epoch, 10) for epoch in (0, 2.9, 3, 7.4, 7.5, 9.9)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_step_with_a_cycle_starts_anew() -> None:
    schedule = Step(at=(0.5,), gamma=0.1, cycle=4)
    assert [schedule.factor(epoch, 10) for epoch in range(8)] == [1, 1, 0.1, 0.1] * 2


def test_one_cycle_rises_to_its_peak_and_falls_to_0() -> None:
    schedule = OneCycle(peak=0.25, start=0.2)
    found = [schedule.factor(epoch, 8) for epoch in (0, 1, 2, 5, 8, 9)]
    assert found == pytest.approx([0.2, 0.6, 1, 0.5, 0, 0])
    with pytest.raises(ValidationError, match="warmup"):
        OneCycle(warmup=1)


@given(st.sampled_from(sorted(SCHEDULES)), st.floats(0, 1), st.integers(1, 300))
def test_factors_lie_between_0_and_1(kind: str, part: float, epochs: int) -> None:
    assert 0 <= SCHEDULES[kind]().factor(part * epochs, epochs) <= 1
