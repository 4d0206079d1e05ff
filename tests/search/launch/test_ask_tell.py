from __future__ import annotations

import math
from typing import Any

import pytest
from optuna.trial import TrialState

from search.launch.ask_tell import OBSERVED, Sampling
from search.samplers.own import SobolSampler, told
from search.space.parameters import FloatRange
from tests.search.studies import study

SPACE = """\
space:
  recipe.sparsity: {kind: float, low: 0.3, high: 0.98}
  recipe.rewind: {kind: int, low: 0, high: 4}
constraints: {clean_accuracy: '>= 0.5'}
"""


def sampling() -> Sampling:
    return Sampling(study(SPACE))


def trials(asked: Sampling) -> list[Any]:
    return list(asked._study.get_trials())


def test_a_complete_trial_carries_its_values_and_constraints() -> None:
    asked = sampling()
    asked.ask(0)
    asked.tell(0, "complete", [0.5, 0.7], [-0.1])
    (trial,) = trials(asked)
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [0.5, 0.7])
    assert trial.constraints == {"clean_accuracy": -0.1}


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
    (trial,) = trials(asked)
    assert (trial.state, trial.values) == (TrialState.FAIL, None)


def test_failed_and_stopped_trials_are_on_no_front() -> None:
    asked = sampling()
    asked.ask(0)
    asked.ask(1)
    asked.tell(0, "failed", None)
    asked.tell(1, "stopped", [0.9, 0.9], [0.0])
    assert [trial.state for trial in trials(asked)] == [TrialState.FAIL, TrialState.PRUNED]
    assert trials(asked)[1].user_attrs["last_values"] == [0.9, 0.9]
    assert asked._study.best_trials == []


def test_points_on_the_way_are_trials_of_their_own() -> None:
    asked = sampling()
    params, _ = asked.ask(0)
    assert asked.observe(0, {**params, "recipe.sparsity": 0.3}, [0.8, 0.3], [0.1])
    asked.tell(0, "complete", [0.5, 0.7], [-0.1])
    told, seen = trials(asked)
    assert (told.state, seen.state) == (TrialState.COMPLETE, TrialState.COMPLETE)
    assert seen.user_attrs[OBSERVED] == 0
    assert (seen.params["recipe.sparsity"], seen.constraints) == (0.3, {"clean_accuracy": 0.1})


def test_points_are_told_in_the_order_in_which_they_were_learned() -> None:
    asked = sampling()
    first, second = (asked.ask(number)[0] for number in range(2))
    asked.tell(1, "complete", [0.5, 0.7], [0.0])
    asked.observe(0, {**first, "recipe.sparsity": 0.3}, [0.8, 0.3], [0.0])
    asked.tell(0, "complete", [0.4, 0.8], [0.0])
    known = told(asked._study.get_trials(), asked._study, ["clean_accuracy"])
    assert known.params == [second, {**first, "recipe.sparsity": 0.3}, first]
    assert known.values[:, 0].tolist() == [0.5, 0.8, 0.4]


@pytest.mark.parametrize("params", [{"recipe.sparsity": 0.0}, {"recipe.rewind": 9}, {"recipe.rewind": "init"}])
def test_points_outside_of_the_space_are_counted_not_told(params: dict[str, Any]) -> None:
    asked = sampling()
    issued, _ = asked.ask(0)
    assert not asked.observe(0, {**issued, **params}, [0.5, 0.5], [0.0])
    assert asked.outside == 1
    assert len(trials(asked)) == 1


@pytest.mark.parametrize("values", [None, [0.5, math.nan]])
def test_points_without_all_values_are_not_told(values: Any) -> None:
    asked = sampling()
    issued, _ = asked.ask(0)
    assert not asked.observe(0, issued, values, [0.0])
    assert (asked.outside, len(trials(asked))) == (0, 1)


def test_an_adopted_trial_is_running_with_the_same_parameters_and_can_end() -> None:
    asked, again = sampling(), sampling()
    params, attributes = asked.ask(5)
    again.adopt(5, params, attributes)
    (trial,) = trials(again)
    assert (trial.state, trial.params) == (TrialState.RUNNING, params)
    again.tell(5, "complete", [0.5, 0.7], [0.0])
    assert trials(again)[0].state == TrialState.COMPLETE


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
    assert [trial.values for trial in trials(asked)] == [[0.5]] * 3


def test_sobol_points_cover_the_space_evenly_whatever_was_asked_before() -> None:
    space = {"a": FloatRange(low=0, high=1), "b": FloatRange(low=0, high=1)}
    points = [SobolSampler(1, number, space)._point for number in range(16)]
    for name in space:
        # A (0, m, s)-net: each sixteenth of an axis holds exactly one of sixteen points.
        assert sorted(int(16 * point[name]) for point in points) == list(range(16))


def test_points_on_the_way_count_to_the_generation_of_their_trial() -> None:
    asked = Sampling(study(SPACE + "sampler: {kind: nsga2, population_size: 4}\n"))
    generations = []
    for number in range(4):
        params, attributes = asked.ask(number)
        generations += [value for name, value in attributes["trial"].items() if name.endswith(":generation")]
        assert asked.observe(number, {**params, "recipe.sparsity": 0.3}, [0.5, 0.3], [0.0])
        asked.tell(number, "complete", [0.5, 0.7], [0.0])
    # Two trials of two points each fill a population of four.
    assert generations == [0, 0, 1, 1]
