"""Every registered scheduler of early stopping, by its kit."""

from __future__ import annotations

from typing import Any

import pytest

from search.early_stopping import SCHEDULERS
from search.early_stopping.base import Scheduler, StoppingRule
from search.testing.schedulers import TWO, SchedulerKit, play, story


class TestNone(SchedulerKit):
    stops = False

    @pytest.fixture
    def scheduler(self) -> Scheduler:
        return SCHEDULERS.parse("none")

    def test_it_is_the_kind_and_measures_nothing(self, scheduler: Scheduler) -> None:
        assert SCHEDULERS.parse({"kind": "none"}) == scheduler
        assert scheduler.partial_schedule() is None


class TestSchedulers(SchedulerKit):
    @pytest.fixture(params=[kind for kind in SCHEDULERS if kind != "none"])
    def scheduler(self, request: pytest.FixtureRequest) -> Scheduler:
        return SCHEDULERS.parse(request.param)

    def test_it_is_the_kind_and_measures_on_the_way(self, scheduler: Scheduler) -> None:
        assert SCHEDULERS.parse({"kind": scheduler.kind}) == scheduler
        assert scheduler.partial_schedule() is not None


def test_the_base_has_no_rule() -> None:
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
        rule = spec.build(TWO, live=False)
        play(rule, [t for t in ended if t[0] < 12])
        return rule

    late = [t for t in ended if t[0] >= 12 and t[1].ahead]
    together, alone = fresh(), {n: fresh() for n, _ in late}
    assert [together.report(*one) for one in late] == [alone[one[0]].report(*one) for one in late]
