"""Early stopping without a clock: what is taken in, what is protected, and that replaying gives the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.early_stopping import SCHEDULERS
from search.early_stopping.base import Measurement, StoppingRule, aimed
from search.early_stopping.moasha import Moasha
from search.early_stopping.reach import Reach
from trainables.method.partial import PartialSchedule
from trainables.method.phases import Train
from trainables.method.training import Training

TWO = ("robust_accuracy", "sparsity")


class Merciless(StoppingRule):
    """Stops everything that it may."""

    def _hopeless(self, number: int, report: Measurement) -> bool:
        return True


def point(robust: float, sparsity: float, ahead: tuple[float, ...] = (), **changes: Any) -> Measurement:
    return Measurement(resource=1, values=(robust, sparsity), sparsity=sparsity, ahead=ahead, **changes)


def test_values_are_aimed_at_the_target_where_they_follow_from_the_sparsity() -> None:
    names = ("robust_accuracy", "sparsity", "nonzero", "macs_effective", "clean_accuracy")
    report = Measurement(3, (0.4, 0.5, 0.5, 0.2, 0.9), 0.5, ahead=(0.75, 0.9))
    assert aimed(report, names) == pytest.approx((0.4, 0.9, 0.9, 1 - 0.8 * 0.1 / 0.5, 0.9))
    assert aimed(Measurement(3, (0.4, 0.5), 0.5), TWO) == (0.4, 0.5)


def test_a_trial_with_a_point_that_no_complete_trial_covers_continues() -> None:
    search = Merciless(TWO)
    assert not search.report(0, point(0.8, 0.0, ahead=(0.5,)))
    assert search.report(1, point(0.8, 0.0, ahead=(0.5,), share=0.5)), "a look is not a point"
    assert search.report(2, point(0.8, 0.0, ahead=(0.5,), violation=0.1)), "an infeasible point is on no front"
    assert not search.report(0, point(0.7, 0.5)), "a trial is not stopped at its end"
    search.end(0, "complete")
    assert search.report(3, point(0.8, 0.0, ahead=(0.5,))), "the same network is kept by trial 0"
    assert not search.report(4, point(0.81, 0.0, ahead=(0.5,)))
    assert not search.report(4, point(0.1, 0.4, ahead=(0.5,))), "its first point is still needed"


def test_the_front_takes_up_complete_trials_alone() -> None:
    search = Merciless(TWO)
    for number, (robust, state) in enumerate([(0.9, "failed"), (0.8, "stopped"), (0.6, "complete"), (0.7, "complete")]):
        search.report(number, point(robust, 0.5))
        search.end(number, state)  # type: ignore[arg-type]
    assert search.front == [(0.7, 0.5)]
    assert 0 not in search.measurements


PLACES = st.tuples(
    st.integers(0, 5), st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.75]), st.sampled_from([0.25, 1.0]), st.booleans()
)
KINDS = st.sampled_from([kind for kind in SCHEDULERS if kind != "none"])


def run(kind: str, story: list[tuple[int, float, float, float, bool]], live: bool) -> tuple[StoppingRule, list[Any]]:
    """Let six trials report in any order; each ends when it is stopped or with a report that says so."""
    spec = SCHEDULERS[kind].model_validate({"kind": kind, **({"grace": 1} if kind == "moasha" else {"evidence": 1})})
    search = spec.build(TWO, live)
    ended: dict[int, str] = {}
    resource: dict[int, int] = {}
    verdicts = []
    for number, robust, sparsity, share, last in story:
        if number in ended:
            continue
        resource[number] = resource.get(number, 0) + 1
        report = Measurement(resource[number], (robust, sparsity), sparsity, () if last else (0.9,), share)
        stop = search.report(number, report)
        verdicts.append((number, report, stop))
        if stop or last:
            ended[number] = "stopped" if stop else "complete"
            search.end(number, ended[number])  # type: ignore[arg-type]
    return search, verdicts


@settings(max_examples=60, deadline=None)
@given(KINDS, st.lists(PLACES, max_size=40), st.booleans())
def test_what_is_stopped_takes_no_point_of_the_front_along(kind: str, story: list[Any], live: bool) -> None:
    search, verdicts = run(kind, story, live)
    for number in {number for number, _, stop in verdicts if stop}:
        for report in search.measurements[number]:
            kept = any(all(a >= b for a, b in zip(known, report.values, strict=True)) for known in search.front)
            assert kept or report.share < 1


@settings(max_examples=60, deadline=None)
@given(KINDS, st.lists(PLACES, max_size=40), st.booleans())
def test_the_same_reports_give_the_same_verdicts_and_state(kind: str, story: list[Any], live: bool) -> None:
    one, first = run(kind, story, live)
    two, second = run(kind, story, live)
    assert first == second
    assert one.state() == two.state()
    assert json.loads(json.dumps(one.state(), allow_nan=False)) is not None


@settings(max_examples=40, deadline=None)
@given(KINDS, st.lists(PLACES, max_size=40))
def test_a_replay_of_ended_trials_gives_the_state_of_one_that_saw_them_one_after_another(
    kind: str, story: list[Any]
) -> None:
    spec = SCHEDULERS[kind]()
    one, two = spec.build(TWO), spec.build(TWO)
    trials: dict[int, list[Measurement]] = {}
    for number, robust, sparsity, share, _ in story:
        reports = trials.setdefault(number, [])
        reports.append(Measurement(len(reports) * 3, (robust, sparsity), sparsity, (0.9,), share))
    for number, reports in trials.items():
        state = ("complete", "stopped", "failed")[number % 3]
        for report in reports:
            one.report(number, report)
        one.end(number, state)  # type: ignore[arg-type]
        two.replay(number, reports, state)  # type: ignore[arg-type]
    assert one.state() == two.state()


@pytest.mark.parametrize("order", [(4, 5, 6), (6, 5, 4), (5, 6, 4)])
def test_without_live_reports_the_verdicts_do_not_depend_on_who_is_faster(order: tuple[int, ...]) -> None:
    search = Moasha(grace=1, eta=2).build(TWO, live=False)
    for number in range(4):
        search.replay(number, [Measurement(1, (number / 10, 0.5), 0.0, (0.5,), 0.5)], "stopped")
    verdicts = {n: search.report(n, Measurement(1, (n / 20, 0.5), 0.0, (0.5,), 0.5)) for n in order}
    assert verdicts == {4: True, 5: False, 6: False}


def test_looks_are_due_at_levels_of_ones_own_epochs_and_at_shares_of_long_trainings() -> None:
    def due(rungs: PartialSchedule, start: int, epochs: int, before: int = 0) -> list[int]:
        phase = Train(epochs=epochs, start=start, training=Training())
        return [e for e in range(start + 1, epochs + 1) if rungs.due(phase, e, before + e - start)]

    assert due(PartialSchedule(levels=(1, 3, 9)), 0, 9) == [1, 3], "at the end there is a point"
    assert due(PartialSchedule(levels=(1, 3, 9)), 0, 10, before=2) == [1, 7]
    assert due(PartialSchedule(shares=(0.05, 0.25, 0.5), least=8), 0, 8) == [1, 2, 4]
    assert due(PartialSchedule(shares=(0.25, 0.5), least=8), 2, 10) == [4, 6]
    assert due(PartialSchedule(shares=(0.25, 0.5), least=8), 0, 7) == []
    assert Reach().partial_schedule().levels == ()
    assert Moasha(grace=2, eta=2.5, max_rungs=4).partial_schedule().levels == (2, 5, 12, 31)
