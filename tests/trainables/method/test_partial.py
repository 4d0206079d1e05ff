"""When partial measurements are due, and by which protocol they are made."""

from __future__ import annotations

from typing import Any

import pytest

from trainables.attacks.pgd import Pgd
from trainables.method.imitation import Imitation
from trainables.method.partial import PartialSchedule
from trainables.method.phases import EpochPhase, Imitate, Train
from trainables.method.protocol import Protocol
from trainables.method.training import Training
from trainables.metrics.weights import Weights
from trainables.pruning import Pruning


def due(schedule: PartialSchedule, phase: EpochPhase, before: int = 0) -> list[int]:
    """Return the epochs after which a measurement is due, `before` being those the trial trained before."""
    epochs = range(phase.first + 1, phase.end + 1)
    return [epoch for epoch in epochs if schedule.due(phase, epoch, before + epoch - phase.first)]


def training(epochs: int, **fields: Any) -> Train:
    return Train(epochs=epochs, training=Training(), **fields)


def test_levels_count_the_epochs_of_the_trial() -> None:
    schedule = PartialSchedule(levels=(2, 5, 9))
    assert due(schedule, training(6)) == [2, 5]
    assert due(schedule, training(6), before=4) == [1, 5]


def test_shares_are_of_each_training_that_is_long_enough() -> None:
    schedule = PartialSchedule(shares=(0.25, 0.5), least=8)
    assert due(schedule, training(8)) == [2, 4]
    assert due(schedule, training(7)) == []
    assert due(schedule, training(12, start=4)) == [6, 8]
    assert due(PartialSchedule(shares=(0.01,)), training(8)) == [1], "not before the first epoch"


@pytest.mark.parametrize("phase", [training(4), training(8, until=4)])
def test_nothing_is_due_at_the_end(phase: Train) -> None:
    assert due(PartialSchedule(levels=(4,), shares=(1.0, 0.99)), phase) == []


def test_only_trainings_are_measured() -> None:
    search = Imitate(epochs=8, sparsity=0.5, pruning=Pruning(), imitation=Imitation())
    assert due(PartialSchedule(levels=(2,), shares=(0.5,)), search) == []


def test_the_protocol_is_a_cheaper_one() -> None:
    schedule = PartialSchedule(examples=64, steps=3)
    cheap = schedule.protocol(Protocol(attack=Pgd(steps=20), metrics=(Weights(),)))
    assert (cheap.examples, cheap.metrics, cheap.attack.label) == (64, (), "PGD-3")
    assert schedule.protocol(Protocol(examples=10)).examples == 10
