"""What every scheduler of early stopping must do."""

from __future__ import annotations

import importlib
import json
import random
import subprocess
import sys

import pytest

from search.early_stopping.base import Measurement, Scheduler, StoppingRule
from trainables.core.spec import plain
from trainables.method.partial import PartialSchedule

Story = list[tuple[int, Measurement]]
"""Measurements in the order in which they are reported, each with the number of its trial."""

TWO = ("robust_accuracy", "sparsity")
LADDER = (0.0, 0.5, 0.75, 0.9)
"""The sparsities of the points of a trial."""


def story(seed: int) -> Story:
    """Return the measurements of 24 trials that climb a ladder of sparsities, three at a time; some start badly."""
    draw = random.Random(seed)
    trials: list[Story] = []
    for number in range(24):
        quality, top, own = draw.uniform(0.2, 0.9), draw.randrange(1, len(LADDER)), []
        for done, sparsity in enumerate(LADDER[: top + 1]):
            for share in (0.25, 0.5, 1.0):
                robust = min(1.0, max(0.0, quality * (1 - sparsity**3) * share**0.3 + draw.gauss(0, 0.01)))
                ahead = LADDER[done + (share == 1) : top + 1]
                resource = 8 * done + round(8 * share)
                own.append((number, Measurement(resource, (robust, sparsity), sparsity, ahead, share, done)))
        trials.append(own)
    order: Story = []
    running = [trials.pop(0) for _ in range(3)]
    while running:
        own = draw.choice(running)
        order.append(own.pop(0))
        if not own:
            running.remove(own)
            running += [trials.pop(0)] if trials else []
    return order


def play(rule: StoppingRule, measurements: Story) -> dict[int, int]:
    """Report measurements until their trials are stopped; return the epoch at which each stopped trial was stopped."""
    stopped: dict[int, int] = {}
    for number, measurement in measurements:
        if number in stopped:
            continue
        if rule.report(number, measurement):
            stopped[number] = measurement.resource
            rule.end(number, "stopped")
        elif not measurement.ahead:
            rule.end(number, "complete")
    return stopped


def in_another_process(scheduler: Scheduler) -> list[dict[int, int]]:
    """Return how two stories end in a process of its own; the module of the scheduler must be importable there."""
    kind = type(scheduler)
    code = (
        "import json, sys; from search.testing import schedulers as kit; rebuilt = kit.rebuilt(*sys.argv[1:]);"
        "print(json.dumps([kit.play(rebuilt.build(kit.TWO), kit.story(seed)) for seed in range(2)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, kind.__module__, kind.__qualname__, json.dumps(plain(scheduler))],
        env={"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return [{int(number): at for number, at in each.items()} for each in json.loads(done.stdout)]


def rebuilt(module: str, name: str, fields: str) -> Scheduler:
    """Return the scheduler that JSON describes."""
    kind: type[Scheduler] = getattr(importlib.import_module(module), name)
    return kind.model_validate(json.loads(fields))


class SchedulerKit:
    """Tests of a scheduler, with its default settings."""

    stops = True
    """Whether it stops trials at all."""

    @pytest.fixture
    def scheduler(self) -> Scheduler:
        """Return the scheduler to test."""
        raise NotImplementedError

    def test_it_is_plain_data_and_has_a_schedule_of_measurements(self, scheduler: Scheduler) -> None:
        assert type(scheduler).model_validate(json.loads(json.dumps(plain(scheduler)))) == scheduler
        schedule = scheduler.partial_schedule()
        assert schedule is None or PartialSchedule.model_validate(json.loads(json.dumps(plain(schedule)))) == schedule

    def test_the_same_story_ends_the_same_also_in_another_process(self, scheduler: Scheduler) -> None:
        ends = [play(scheduler.build(TWO), story(seed)) for seed in range(2)]
        assert ends == [play(scheduler.build(TWO), story(seed)) for seed in range(2)]
        assert in_another_process(scheduler) == ends

    def test_something_is_stopped_and_never_what_the_front_needs(self, scheduler: Scheduler) -> None:
        for seed in range(3):
            rule = scheduler.build(TWO)
            stopped = play(rule, story(seed))
            assert bool(stopped) == self.stops
            points = (one for number in stopped for one in rule.measurements[number] if one.share == 1)
            for point in points:
                assert any(all(a >= b for a, b in zip(known, point.values, strict=True)) for known in rule.front)

    def test_a_search_that_is_rebuilt_from_ended_trials_resumes_with_their_measurements(
        self, scheduler: Scheduler
    ) -> None:
        """Trial by trial, for what ends first is replayed first; then the rest of the story ends alike."""
        measurements = sorted(story(5), key=lambda item: item[0])
        first, rest = [m for m in measurements if m[0] < 16], [m for m in measurements if m[0] >= 16]
        whole, parts = scheduler.build(TWO), scheduler.build(TWO)
        stopped = play(whole, first)
        for number in range(16):
            parts.replay(number, whole.measurements[number], "stopped" if number in stopped else "complete")
        assert parts.state() == whole.state()
        assert play(parts, rest) == play(whole, rest)

    def test_a_trial_alone_is_not_stopped_nor_one_at_its_end(self, scheduler: Scheduler) -> None:
        alone = [(0, measurement) for _, measurement in story(1)[:8]]
        assert play(scheduler.build(TWO), alone) == {}
        rule = scheduler.build(TWO)
        play(rule, story(2))
        assert not rule.report(99, Measurement(99, (0.0, 0.1), 0.1))

    @pytest.mark.parametrize(
        "objectives", [("robust_accuracy",), (*TWO, "clean_accuracy"), ("nonzero", "macs_effective")]
    )
    def test_any_number_of_objectives_works(self, scheduler: Scheduler, objectives: tuple[str, ...]) -> None:
        def widened(measurement: Measurement) -> Measurement:
            return Measurement(**{**vars(measurement), "values": (*measurement.values, 0.5)[: len(objectives)]})

        rule = scheduler.build(objectives)
        play(rule, [(number, widened(measurement)) for number, measurement in story(3)])
        json.dumps(rule.state(), allow_nan=False)
