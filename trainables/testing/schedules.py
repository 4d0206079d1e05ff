"""What every learning-rate schedule must do."""

from __future__ import annotations

import json

import pytest

from trainables.core.spec import plain
from trainables.method.schedules import SCHEDULES, Schedule
from trainables.store.state import State, pack, unpack
from trainables.testing.trainings import end, network, phase, same, started

EPOCHS = 20
"""The length of the trainings, in epochs."""


class ScheduleKit:
    """Tests of a learning-rate schedule."""

    @pytest.fixture
    def schedule(self) -> Schedule:
        """Return the schedule to test."""
        raise NotImplementedError

    def test_is_between_0_and_1_at_every_step(self, schedule: Schedule) -> None:
        factors = [schedule.factor(step / 7, EPOCHS) for step in range(7 * EPOCHS)]
        assert all(0 <= factor <= 1 + 1e-12 for factor in factors)
        assert max(factors) == pytest.approx(1, abs=0.1)

    def test_depends_on_the_epoch_alone(self, schedule: Schedule) -> None:
        epochs = [0.0, 3.5, 12.25, EPOCHS - 0.1]
        wanted = [schedule.factor(epoch, EPOCHS) for epoch in epochs]
        assert [schedule.factor(epoch, EPOCHS) for epoch in reversed(epochs)] == wanted[::-1]

    def test_its_warm_up_is_linear(self, schedule: Schedule) -> None:
        if not schedule.warmup:
            return
        for share in (0.0, 0.25, 0.5, 0.75):
            assert schedule.factor(share * schedule.warmup, EPOCHS) == pytest.approx(share)

    def test_a_training_with_it_resumes_to_the_same_bits(self, schedule: Schedule) -> None:
        spec = phase(epochs=4, schedule=schedule)
        whole = started(spec, State.of(network()))
        checkpoint = unpack(pack(next(whole).checkpoint()))
        wanted, resumed = end(whole), end(started(spec, State.of(network()), resume=(1, checkpoint)))
        assert wanted.lr == resumed.lr
        assert same(wanted.state(), resumed.state())

    def test_survives_json(self, schedule: Schedule) -> None:
        assert SCHEDULES.parse(json.loads(json.dumps(plain(schedule)))) == schedule
