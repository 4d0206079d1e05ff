from __future__ import annotations

import math
from typing import Any, Literal

import pytest

from search.launch.ask_tell import Sampling
from search.samplers import SAMPLERS, Sampler
from search.samplers.base import SamplerContext, Suggestion
from search.samplers.observations import Observation
from search.samplers.points import ObservedPoints
from tests.search.studies import study
from trainables.core.errors import SpecError

SPACE = """\
space:
  recipe.sparsity: {kind: float, low: 0.3, high: 0.98}
  recipe.rewind: {kind: int, low: 0, high: 4}
constraints: {clean_accuracy: '>= 0.5'}
"""


def sampling() -> Sampling:
    return Sampling(study(SPACE))


def observed(asked: Sampling) -> list[Observation]:
    return list(asked.observations)


def test_a_complete_trial_carries_its_values_and_violations() -> None:
    asked = sampling()
    asked.ask(0)
    asked.tell(0, "complete", [0.5, 0.7], [-0.1])
    (trial,) = observed(asked)
    assert (trial.trial, trial.origin) == (0, "own")
    assert (trial.state, trial.values, trial.violations) == ("complete", (0.5, 0.7), (-0.1,))


@pytest.mark.parametrize(
    ("values", "violations"),
    [
        (None, []),
        (None, [0.0]),
        ([0.5, math.nan], [0.0]),
        ([math.inf, 0.5], [0.0]),
        ([0.5, None], [0.0]),
        (["0.5", 0.5], [0.0]),
        ([0.5, 0.5], [math.nan]),
        ([0.5, 0.5], []),
    ],
)
def test_a_complete_trial_without_all_its_values_fails_and_never_runs_on(values: Any, violations: list[float]) -> None:
    asked = sampling()
    asked.ask(0)
    asked.tell(0, "complete", values, violations)
    (trial,) = observed(asked)
    assert trial.state == "failed"
    assert ObservedPoints.of(asked.observations, asked.problem).values.shape == (0, 2)


def test_failed_and_stopped_trials_are_no_points() -> None:
    asked = sampling()
    asked.ask(0)
    asked.ask(1)
    asked.tell(0, "failed", None)
    asked.tell(1, "stopped", [0.9, 0.9], [0.0])
    assert [trial.state for trial in observed(asked)] == ["failed", "stopped"]
    assert observed(asked)[1].values == (0.9, 0.9)
    assert asked.observations.learned() == []
    points = ObservedPoints.of(asked.observations, asked.problem)
    assert points.params == []
    assert (points.failed, points.stopped) == ([observed(asked)[0].params], [observed(asked)[1].params])
    assert points.running == []


def test_points_on_the_way_are_observations_of_their_own() -> None:
    asked = sampling()
    params, _ = asked.ask(0)
    assert asked.add_observation(0, {**params, "recipe.sparsity": 0.3}, [0.8, 0.3], [0.1])
    asked.tell(0, "complete", [0.5, 0.7], [-0.1])
    own, on_the_way = observed(asked)
    assert (own.state, on_the_way.state) == ("complete", "complete")
    assert (on_the_way.origin, on_the_way.trial) == ("on the way", 0)
    assert (on_the_way.params["recipe.sparsity"], on_the_way.violations) == (0.3, (0.1,))


def test_points_are_in_the_order_in_which_they_were_learned() -> None:
    asked = sampling()
    first, second = (asked.ask(number)[0] for number in range(2))
    asked.tell(1, "complete", [0.5, 0.7], [0.0])
    asked.add_observation(0, {**first, "recipe.sparsity": 0.3}, [0.8, 0.3], [0.0])
    asked.tell(0, "complete", [0.4, 0.8], [0.0])
    points = ObservedPoints.of(asked.observations, asked.problem)
    assert points.params == [second, {**first, "recipe.sparsity": 0.3}, first]
    assert points.values[:, 0].tolist() == [0.5, 0.8, 0.4]


@pytest.mark.parametrize("params", [{"recipe.sparsity": 0.0}, {"recipe.rewind": 9}, {"recipe.rewind": "init"}])
def test_points_outside_of_the_space_are_counted_and_not_observed(params: dict[str, Any]) -> None:
    asked = sampling()
    issued, _ = asked.ask(0)
    assert not asked.add_observation(0, {**issued, **params}, [0.5, 0.5], [0.0])
    assert asked.outside == 1
    assert len(observed(asked)) == 1


@pytest.mark.parametrize("values", [None, [0.5, math.nan]])
def test_points_without_all_values_are_not_observed(values: Any) -> None:
    asked = sampling()
    issued, _ = asked.ask(0)
    assert not asked.add_observation(0, issued, values, [0.0])
    assert (asked.outside, len(observed(asked))) == (0, 1)


def test_points_of_other_studies_come_before_the_first_trial() -> None:
    asked = sampling()
    assert asked.add_transferred("other", {"recipe.sparsity": 0.5, "recipe.rewind": 1}, [0.5, 0.5], [0.0])
    assert not asked.add_transferred("other", {"recipe.sparsity": 0.1, "recipe.rewind": 1}, [0.5, 0.1], [0.0])
    (point,) = observed(asked)
    assert (point.origin, point.study, point.trial) == ("transferred", "other", None)
    asked.ask(0)
    with pytest.raises(AssertionError, match="come first"):
        asked.add_transferred("other", {"recipe.sparsity": 0.6, "recipe.rewind": 1}, [0.5, 0.6], [0.0])


def test_an_adopted_trial_is_running_with_the_same_parameters_and_can_end() -> None:
    asked, again = sampling(), sampling()
    params, attributes = asked.ask(5)
    again.adopt(5, params, attributes)
    (trial,) = observed(again)
    assert (trial.state, trial.params) == ("running", params)
    again.tell(5, "complete", [0.5, 0.7], [0.0])
    assert observed(again)[0].state == "complete"


def test_a_number_is_issued_once() -> None:
    asked = sampling()
    params, attributes = asked.ask(0)
    with pytest.raises(AssertionError, match="issued already"):
        asked.ask(0)
    with pytest.raises(AssertionError, match="issued already"):
        asked.adopt(0, params, attributes)


def test_one_objective_and_an_empty_space_work() -> None:
    asked = Sampling(study("objectives: {robust_accuracy: maximise}\n"))
    for number in range(3):
        assert asked.ask(number)[0] == {}
        asked.tell(number, "complete", [0.5])
    assert [trial.values for trial in observed(asked)] == [(0.5,)] * 3


@pytest.mark.parametrize("kind", SAMPLERS)
def test_given_parameters_are_taken_by_every_sampler(kind: str) -> None:
    asked = Sampling(study(SPACE + f"sampler: {kind}\n"))
    given = {"recipe.sparsity": 0.75, "recipe.rewind": 3}
    for number in range(2):
        assert asked.ask(number, given)[0] == given
        asked.tell(number, "complete", [0.5, 0.75], [0.0])


class Outside(Sampler):
    """A defective plug-in: it ignores the space."""

    kind: Literal["outside"] = "outside"

    def suggest(self, context: SamplerContext) -> Suggestion:
        return Suggestion({"recipe.sparsity": 2.0, "recipe.rewind": 1})


def test_a_suggestion_outside_of_the_space_is_refused_and_leaves_no_trial() -> None:
    asked = Sampling(study(SPACE).model_copy(update={"sampler": Outside()}))
    with pytest.raises(SpecError, match=r"sampler 'outside' suggests .*2\.0.* not in the space"):
        asked.ask(0)
    assert observed(asked) == []
