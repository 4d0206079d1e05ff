"""Learning-rate schedules against their formulas."""

from __future__ import annotations

import math

import pytest

from trainables.method.schedules import Constant, Cosine, OneCycle, Step


def test_a_cosine_falls_from_1_after_the_warm_up_to_its_end() -> None:
    schedule = Cosine(warmup=2.0, final=0.1)
    assert [schedule.factor(epoch, 10) for epoch in (0, 1, 2)] == [0, 0.5, 1]
    assert schedule.factor(6, 10) == pytest.approx(0.55)
    assert schedule.factor(4, 10) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert schedule.factor(10, 10) == pytest.approx(0.1)


def test_steps_are_taken_at_shares_of_the_training_or_of_each_cycle() -> None:
    assert [Step().factor(epoch, 20) for epoch in (9.9, 10, 14.9, 15)] == pytest.approx([1, 0.1, 0.1, 0.01])
    cycle = Step(at=(0.3,), gamma=0.5, cycle=10)
    assert [cycle.factor(epoch, 40) for epoch in (2.9, 3, 10, 12.9, 13)] == [1, 0.5, 1, 1, 0.5]


def test_one_cycle_rises_to_its_peak_and_falls_to_0() -> None:
    schedule = OneCycle(peak=0.25, start=0.1)
    assert [schedule.factor(epoch, 20) for epoch in (0, 2.5, 5, 12.5, 20)] == pytest.approx([0.1, 0.55, 1, 0.5, 0])


def test_a_constant_changes_nothing_after_its_warm_up() -> None:
    assert [Constant(warmup=4.0).factor(epoch, 10) for epoch in (1, 4, 9)] == [0.25, 1, 1]
