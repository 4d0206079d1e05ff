"""The conformance kit of schedulers of early stopping: whatever is in the registry is held to this."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import Any

import pytest

from search.early_stopping import SCHEDULERS
from search.early_stopping.base import Measurement, Scheduler, StoppingRule
from trainables.core.spec import plain
from trainables.method.partial import PartialSchedule

TWO = ("robust_accuracy", "sparsity")
KINDS = list(SCHEDULERS)
LADDER = (0.0, 0.5, 0.75, 0.9)


def story(seed: int) -> list[tuple[int, Measurement]]:
    """What 24 trials would report that climb a ladder of sparsities, three at a time, some with a bad start."""
    draw = random.Random(seed)
    told: list[list[tuple[int, Measurement]]] = []
    for number in range(24):
        quality, top, mine = draw.uniform(0.2, 0.9), draw.randrange(1, len(LADDER)), []
        for done, sparsity in enumerate(LADDER[: top + 1]):
            for share in (0.25, 0.5, 1.0):
                robust = min(1.0, max(0.0, quality * (1 - sparsity**3) * share**0.3 + draw.gauss(0, 0.01)))
                ahead = LADDER[done + (share == 1) : top + 1]
                resource = 8 * done + round(8 * share)
                mine.append((number, Measurement(resource, (robust, sparsity), sparsity, ahead, share, done)))
        told.append(mine)
    order: list[tuple[int, Measurement]] = []
    running = [told.pop(0) for _ in range(3)]
    while running:
        mine = draw.choice(running)
        order.append(mine.pop(0))
        if not mine:
            running.remove(mine)
            running += [told.pop(0)] if told else []
    return order


def play(stopping: StoppingRule, told: list[tuple[int, Measurement]]) -> dict[int, int]:
    """Tell a story as far as it is allowed to go; return at which epoch each stopped trial was stopped."""
    stopped: dict[int, int] = {}
    for number, report in told:
        if number in stopped:
            continue
        if stopping.report(number, report):
            stopped[number] = report.resource
            stopping.end(number, "stopped")
        elif not report.ahead:
            stopping.end(number, "complete")
    return stopped


def build(kind: str, objectives: tuple[str, ...] = TWO) -> StoppingRule:
    return SCHEDULERS[kind]().build(objectives)


@pytest.mark.parametrize("kind", KINDS)
def test_a_spec_is_plain_data_and_says_when_to_look(kind: str) -> None:
    spec = SCHEDULERS[kind]()
    assert SCHEDULERS.parse(json.loads(json.dumps(plain(spec)))) == spec == SCHEDULERS.parse(kind)
    rungs = spec.partial_schedule()
    assert rungs is None or PartialSchedule.model_validate(json.loads(json.dumps(plain(rungs)))) == rungs
    assert (rungs is None) == (kind == "none")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_story_ends_the_same_also_in_another_process(kind: str) -> None:
    here = [play(build(kind), story(seed)) for seed in range(2)]
    assert here == [play(build(kind), story(seed)) for seed in range(2)]
    code = (
        "import json, sys; from tests.kits.test_schedulers import build, play, story;"
        "print(json.dumps([play(build(sys.argv[1]), story(seed)) for seed in range(2)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, kind],
        env={"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert [{int(n): at for n, at in each.items()} for each in json.loads(done.stdout)] == here


@pytest.mark.parametrize("kind", KINDS)
def test_something_is_stopped_and_never_what_the_front_needs(kind: str) -> None:
    for seed in range(3):
        stopping = build(kind)
        stopped = play(stopping, story(seed))
        assert bool(stopped) == (kind != "none")
        for report in (report for number in stopped for report in stopping.measurements[number] if report.share == 1):
            assert any(all(a >= b for a, b in zip(known, report.values, strict=True)) for known in stopping.front)


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_that_is_rebuilt_from_ended_trials_goes_on_with_what_they_reported(kind: str) -> None:
    """Trial by trial, for what ends first is told first; then the rest of the story ends alike."""
    told = sorted(story(5), key=lambda item: item[0])
    first, rest = [t for t in told if t[0] < 16], [t for t in told if t[0] >= 16]
    whole, parts = build(kind), build(kind)
    stopped = play(whole, first)
    for number in range(16):
        reports = whole.measurements[number]
        parts.replay(number, reports, "stopped" if number in stopped else "complete")
    assert parts.state() == whole.state()
    assert play(parts, rest) == play(whole, rest)


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_alone_is_not_stopped_nor_one_at_its_end(kind: str) -> None:
    alone = [(0, report) for _, report in story(1)[:8]]
    assert play(build(kind), alone) == {}
    stopping = build(kind)
    play(stopping, story(2))
    assert not stopping.report(99, Measurement(99, (0.0, 0.1), 0.1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("objectives", [("robust_accuracy",), (*TWO, "clean_accuracy"), ("nonzero", "macs_effective")])
def test_any_number_of_objectives_will_do(kind: str, objectives: tuple[str, ...]) -> None:
    def widened(report: Measurement) -> Measurement:
        return Measurement(**{**vars(report), "values": (*report.values, 0.5)[: len(objectives)]})

    stopping = build(kind, objectives)
    play(stopping, [(number, widened(report)) for number, report in story(3)])
    json.dumps(stopping.state(), allow_nan=False)


def test_the_base_says_what_is_missing() -> None:
    with pytest.raises(TypeError, match="build"):
        Scheduler(kind="x").build(TWO)


Settings = dict[str, Any]
EAGER: dict[str, Settings] = {"moasha": {"grace": 1, "max_rungs": 1}, "reach": {"evidence": 1}}


@pytest.mark.parametrize("kind", EAGER)
@pytest.mark.slow
def test_trials_that_do_not_show_themselves_until_they_end_change_no_verdict(kind: str) -> None:
    """Without live reports, a trial's verdicts are those that it would get if it ran alone beside what has ended."""
    spec = SCHEDULERS.parse({"kind": kind, **EAGER[kind]})
    ended = sorted(story(7), key=lambda item: item[0])

    def fresh() -> StoppingRule:
        stopping = spec.build(TWO, live=False)
        play(stopping, [t for t in ended if t[0] < 12])
        return stopping

    late = [t for t in ended if t[0] >= 12 and t[1].ahead]
    together, alone = fresh(), {n: fresh() for n, _ in late}
    assert [together.report(*told) for told in late] == [alone[told[0]].report(*told) for told in late]
