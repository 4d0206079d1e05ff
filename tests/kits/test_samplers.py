"""The conformance kit of samplers: whatever is in the registry is held to this."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from search.launch.ask_tell import Sampling
from search.samplers import SAMPLERS
from search.space.parameters import active
from search.study.file import loads
from search.study.spec import StudySpec

STUDY = """
name: kit
data: digits
model: lenet300
recipe: {kind: imp}
constraints: {clean_accuracy: ">= 0.5"}
space:
  recipe.sparsity: {kind: float, low: 0.1, high: 0.98}
  recipe.rewind: {kind: categorical, choices: [init, 2, dense_trained]}
  recipe.train.eps: {kind: categorical, choices: [0, 0.05, 8/255]}
  recipe.train.loss: {kind: categorical, choices: [madry, trades]}
  recipe.train.loss.beta: {kind: float, low: 1, high: 6, step: 0.5, when: {recipe.train.loss: trades}}
  recipe.train.regularisers.l1: {kind: float, low: 1e-6, high: 1e-4, log: true}
  recipe.round_epochs: {kind: int, low: 2, high: 20, log: true}
  recipe.epochs: {kind: int, low: 10, high: 30, step: 10}
"""
EARLY = {"n_startup_trials": 3, "population_size": 4}
"""Settings with which a sampler stops drawing at random soon, where it has them."""
SLOW = {"gp": 5}
"""Trials for samplers whose suggestions take long."""
BRIEF = {"ehvi": 8}
"""Trials for samplers whose suggestions take a tenth of a second; its own tests say what it learns."""
KINDS = [pytest.param(kind, marks=[pytest.mark.slow] if kind in SLOW else []) for kind in SAMPLERS]


def spec(kind: str, seed: int = 0, constraint: str = ">= 0.5") -> StudySpec:
    fields = SAMPLERS[kind].model_fields
    settings = {"kind": kind, **{name: value for name, value in EARLY.items() if name in fields}}
    text = f"{STUDY}sampler: {json.dumps(settings)}\nseed: {seed}\n"
    return loads(text.replace(">= 0.5", constraint), "kit.yaml")


def measured(params: dict[str, Any]) -> tuple[list[float], list[float]]:
    """A made-up network: denser and longer training is more robust; clean accuracy falls with sparsity."""
    sparsity = params["recipe.sparsity"]
    return [(1 - sparsity**3) * (0.7 + params["recipe.epochs"] / 100), sparsity], [sparsity - 0.8]


def run(sampling: Sampling, number: int, params: dict[str, Any]) -> None:
    """Report a trial as the driver does: points on the way, then the end; some trials fail, some stop early."""
    on_the_way = {**params, "recipe.sparsity": params["recipe.sparsity"] / 2}
    sampling.add_observation(number, on_the_way, *measured(on_the_way))
    state = {3: "failed", 4: "stopped"}.get(number % 6, "complete")
    sampling.tell(number, state, *measured(params))  # type: ignore[arg-type]


def search(study: StudySpec, trials: int, interrupted: int | None = None) -> list[dict[str, Any]]:
    """Search one trial at a time; where `interrupted`, forget all but the records before that trial."""
    sampling = Sampling(study)
    records: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for number in range(trials):
        if number == interrupted:
            sampling = Sampling(study)
            for earlier, (params, attributes) in enumerate(json.loads(json.dumps(records))):
                sampling.adopt(earlier, params, attributes)
                run(sampling, earlier, params)
        records.append(sampling.ask(number))
        run(sampling, number, records[-1][0])
    return [params for params, _ in records]


def trials_of(kind: str) -> int:
    return (SLOW | BRIEF).get(kind, 24)


@pytest.mark.parametrize("kind", KINDS)
def test_suggestions_are_in_the_space_and_make_trials(kind: str) -> None:
    study = spec(kind)
    for params in search(study, trials_of(kind)):
        assert active(study.space, params) == params
        assert list(params) == [path for path in study.space if path in params]
        assert ("recipe.train.loss.beta" in params) == (params["recipe.train.loss"] == "trades")
        assert study.trial(params).recipe.train.eps.text == str(params["recipe.train.eps"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(kind: str) -> None:
    trials = trials_of(kind)
    whole = search(spec(kind), trials)
    for interrupted in {trials - 1, trials // 2}:
        assert search(spec(kind), trials, interrupted) == whole


@pytest.mark.parametrize("kind", KINDS)
def test_suggestions_differ_and_depend_on_the_seed(kind: str) -> None:
    first = search(spec(kind), 4)
    assert len({json.dumps(params) for params in first}) == 4
    assert search(spec(kind, seed=1), 4) != first


@pytest.mark.slow
def test_another_process_suggests_the_same() -> None:
    kinds = [kind for kind in SAMPLERS if kind not in SLOW]
    code = (
        "import json, sys; from tests.kits.test_samplers import search, spec, trials_of;"
        "print(json.dumps({kind: search(spec(kind), min(12, trials_of(kind))) for kind in sys.argv[1:]}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *kinds],
        env={"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert json.loads(done.stdout) == {kind: search(spec(kind), min(12, trials_of(kind))) for kind in kinds}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_running_trials_are_taken_up_and_several_run_at_once(kind: str) -> None:
    study = spec(kind)
    sampling = Sampling(study)
    issued = [sampling.ask(number) for number in range(4)]
    for number in (2, 0, 3):
        run(sampling, number, issued[number][0])
    again = Sampling(study)
    for number, (params, attributes) in enumerate(issued):
        again.adopt(number, params, attributes)
        if number != 1:
            run(again, number, params)
    params, _ = again.ask(4)
    run(again, 1, issued[1][0])
    run(again, 4, params)
    assert study.trial(params)


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
@pytest.mark.slow
def test_constraints_keep_the_search_where_they_are_met(kind: str) -> None:
    """Feasible is a sparsity of at most 0.8, which a blind search exceeds in a fifth of its trials."""
    late = [params["recipe.sparsity"] for seed in range(4) for params in search(spec(kind, seed), 60)[30:]]
    assert sum(sparsity > 0.8 for sparsity in late) / len(late) < 0.13


@pytest.mark.parametrize("kind", [kind for kind in SAMPLERS if kind not in ("random", "qmc", *SLOW, *BRIEF)])
@pytest.mark.slow
def test_samplers_learn_what_is_better(kind: str) -> None:
    """Epochs only help: late trials should take many of them more often than a third of the time."""
    late = [params["recipe.epochs"] for seed in range(4) for params in search(spec(kind, seed), 60)[30:]]
    assert late.count(30) / len(late) > 0.45
