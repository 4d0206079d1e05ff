"""The Optuna study that follows the observations: what Optuna's samplers see."""

from __future__ import annotations

import json
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from search.launch.ask_tell import Sampling
from search.samplers.base import SamplerContext
from search.samplers.optuna.study import OptunaStudy, optuna_study
from tests.search.studies import study

SPACE = """\
space:
  recipe.sparsity: {kind: float, low: 0.3, high: 0.98}
  recipe.rewind: {kind: int, low: 0, high: 4}
constraints: {clean_accuracy: '>= 0.5'}
"""


def sampling(kind: str = "tpe", more: str = "") -> Sampling:
    return Sampling(study(f"{SPACE}{more}sampler: {{kind: {kind}}}\n"))


def followed(asked: Sampling) -> OptunaStudy:
    """The study as the sampler of the next trial finds it."""
    return optuna_study(SamplerContext(0, 99, asked.problem, asked.observations))


def trials(asked: Sampling) -> list[FrozenTrial]:
    return followed(asked).study.get_trials()


def test_a_complete_trial_has_its_values_and_constraints() -> None:
    asked = sampling()
    asked.ask(0)
    asked.tell(0, "complete", [0.5, 0.7], [-0.1])
    (trial,) = trials(asked)
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [0.5, 0.7])
    assert trial.constraints == {"clean_accuracy": -0.1}


def test_a_trial_without_all_its_values_has_failed() -> None:
    asked = sampling()
    asked.ask(0)
    asked.tell(0, "complete", None)
    (trial,) = trials(asked)
    assert (trial.state, trial.values) == (TrialState.FAIL, None)


def test_a_failed_trial_counts_as_the_worst_that_was_learned_before() -> None:
    asked = sampling()
    for number in range(4):
        asked.ask(number)
    asked.tell(0, "complete", [0.5, 0.7], [-0.1])
    asked.tell(1, "complete", [0.8, 0.2], [0.3])
    asked.tell(2, "failed", None)
    asked.tell(3, "complete", [0.0, 0.0], [0.9])
    extended = trials(asked)
    asked.observations = type(asked.observations)(asked.observations)
    for found in (extended, trials(asked)):
        assert (found[2].state, found[2].values) == (TrialState.COMPLETE, [0.5, 0.2])
        assert found[2].constraints == {"clean_accuracy": 0.3}


@pytest.mark.parametrize("kind", ["tpe", "qmc", "ehvi", "random", "grid", "nsga2"])
def test_every_sampler_writes_a_value_of_a_grid_alike(kind: str) -> None:
    grid = SPACE.replace("low: 0.3, high: 0.98", "low: 0.1, high: 0.9, step: 0.1").replace("high: 4", "high: 0")
    asked = Sampling(study(f"{grid}sampler: {kind}\n"))
    for number in range(8):
        params, _ = asked.ask(number)
        assert params["recipe.sparsity"] in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
        asked.tell(number, "complete", [1 - params["recipe.sparsity"] ** 2, params["recipe.sparsity"]], [-0.1])


def test_failed_and_stopped_trials_are_on_no_front() -> None:
    asked = sampling()
    asked.ask(0)
    asked.ask(1)
    asked.tell(0, "failed", None)
    asked.tell(1, "stopped", [0.9, 0.9], [0.0])
    assert [trial.state for trial in trials(asked)] == [TrialState.FAIL, TrialState.PRUNED]
    assert followed(asked).study.best_trials == []


def test_points_on_the_way_and_of_other_studies_are_trials_of_their_own() -> None:
    asked = sampling()
    asked.add_transferred("other", {"recipe.sparsity": 0.6, "recipe.rewind": 1}, [0.7, 0.6], [0.2])
    params, _ = asked.ask(0)
    asked.add_observation(0, {**params, "recipe.sparsity": 0.3}, [0.8, 0.3], [0.1])
    asked.tell(0, "complete", [0.5, 0.7], [-0.1])
    other, own, way = trials(asked)
    assert [trial.state for trial in (other, own, way)] == [TrialState.COMPLETE] * 3
    assert (way.params["recipe.sparsity"], way.constraints) == (0.3, {"clean_accuracy": 0.1})
    assert (other.params["recipe.sparsity"], other.values) == (0.6, [0.7, 0.6])
    assert own.params == params


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_the_target_is_a_constraint(kind: str) -> None:
    asked = sampling(kind, more="target: {robust_accuracy: '>= 0.4'}\n")
    asked.ask(0)
    asked.tell(0, "complete", [0.3, 0.5], [-0.1, 0.1])
    (trial,) = trials(asked)
    assert trial.constraints == {"clean_accuracy": -0.1, "target.robust_accuracy": 0.1}


def test_points_on_the_way_count_to_the_generation_of_their_trial() -> None:
    asked = Sampling(study(SPACE + "sampler: {kind: nsga2, population_size: 4}\n"))
    generations = []
    for number in range(4):
        params, attributes = asked.ask(number)
        generations += [value for name, value in attributes["trial"].items() if name.endswith(":generation")]
        assert asked.add_observation(number, {**params, "recipe.sparsity": 0.3}, [0.5, 0.3], [0.0])
        asked.tell(number, "complete", [0.5, 0.7], [0.0])
    # Two trials of two points each fill a population of four.
    assert generations == [0, 0, 1, 1]


def run(asked: Sampling, number: int, params: dict[str, Any]) -> None:
    asked.add_observation(number, {**params, "recipe.sparsity": 0.3}, [0.8, 0.3], [0.1])
    state = {3: "failed", 4: "stopped"}.get(number % 5, "complete")
    asked.tell(number, state, [1 - params["recipe.sparsity"] ** 2, params["recipe.sparsity"]], [0.0])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_the_study_is_a_cache_extended_or_built_anew_it_is_the_same(kind: str) -> None:
    settings = {"nsga2": ", population_size: 4", "tpe": ", n_startup_trials: 3"}[kind]

    def search(cached: bool) -> list[str]:
        asked = sampling(f"{kind}{settings}")
        found, running = [], []
        for number in range(20):
            if not cached:
                # A copy of the store has no study yet.
                asked.observations = type(asked.observations)(asked.observations)
            params, attributes = asked.ask(number)
            found.append(json.dumps([params, attributes]))
            running.append((number, params))
            if len(running) == 3:
                run(asked, *running.pop(number % 2))
        return found

    assert search(cached=True) == search(cached=False)


def test_a_trial_that_was_suggested_and_never_begun_is_forgotten() -> None:
    asked = sampling()
    asked.ask(0)
    context = SamplerContext(0, 1, asked.problem, asked.observations)
    lost = asked.spec.sampler.suggest(context)
    assert asked.spec.sampler.suggest(context) == lost
    assert asked.ask(1)[0] == lost.params
    assert len(trials(asked)) == 2
