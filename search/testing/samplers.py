"""What every sampler must do."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from typing import Any

import pytest

from search.launch.ask_tell import Sampling
from search.samplers.base import Sampler
from search.space.parameters import active
from search.study.file import loads
from search.study.spec import StudySpec
from trainables.core.spec import plain

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
"""A study with every kind of parameter; feasible is a sparsity of at most 0.8, better are more epochs."""


def study(sampler: Sampler, seed: int = 0) -> StudySpec:
    """Return the study of the kit with a sampler, which need not be registered."""
    return loads(f"{STUDY}seed: {seed}\n", "kit.yaml").model_copy(update={"sampler": sampler})


def measured(params: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return values and violations of a made-up network: robust where it is dense and was trained for long."""
    sparsity = params["recipe.sparsity"]
    return [(1 - sparsity**3) * (0.7 + params["recipe.epochs"] / 100), sparsity], [sparsity - 0.8]


def end(sampling: Sampling, number: int, params: dict[str, Any]) -> None:
    """Report a trial as the driver does: a point on the way, then the end; some trials fail, some stop early."""
    on_the_way = {**params, "recipe.sparsity": params["recipe.sparsity"] / 2}
    sampling.add_observation(number, on_the_way, *measured(on_the_way))
    state = {3: "failed", 4: "stopped"}.get(number % 6, "complete")
    sampling.tell(number, state, *measured(params))  # type: ignore[arg-type]


def search(spec: StudySpec, trials: int, interrupted: int | None = None) -> list[dict[str, Any]]:
    """Search one trial at a time; before trial `interrupted`, start again from the records alone."""
    sampling = Sampling(spec)
    records: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for number in range(trials):
        if number == interrupted:
            sampling = Sampling(spec)
            for earlier, (params, attributes) in enumerate(json.loads(json.dumps(records))):
                sampling.adopt(earlier, params, attributes)
                end(sampling, earlier, params)
        records.append(sampling.ask(number))
        end(sampling, number, records[-1][0])
    return [params for params, _ in records]


def in_another_process(sampler: Sampler, trials: int) -> list[dict[str, Any]]:
    """Return what a search suggests in a process of its own; the module of the sampler must be importable there."""
    kind = type(sampler)
    code = (
        "import json, sys; from search.testing import samplers as kit;"
        "print(json.dumps(kit.search(kit.study(kit.rebuilt(*sys.argv[1:4])), int(sys.argv[4]))))"
    )
    arguments = [kind.__module__, kind.__qualname__, json.dumps(plain(sampler)), str(trials)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def rebuilt(module: str, name: str, fields: str) -> Sampler:
    """Return the sampler that JSON describes."""
    kind: type[Sampler] = getattr(importlib.import_module(module), name)
    return kind.model_validate(json.loads(fields))


class SamplerKit:
    """Tests of a sampler; give it settings with which it soon learns from results."""

    @pytest.fixture
    def sampler(self) -> Sampler:
        """Return the sampler to test."""
        raise NotImplementedError

    @pytest.fixture
    def trials(self) -> int:
        """Return how many trials a search of the kit has; fewer where suggestions take long."""
        return 24

    def test_suggestions_are_in_the_space_and_make_trials(self, sampler: Sampler, trials: int) -> None:
        spec = study(sampler)
        for params in search(spec, trials):
            assert active(spec.space, params) == params
            assert list(params) == [path for path in spec.space if path in params]
            assert ("recipe.train.loss.beta" in params) == (params["recipe.train.loss"] == "trades")
            assert spec.trial(params).recipe.train.eps.text == str(params["recipe.train.eps"])

    def test_an_interrupted_search_resumes_as_if_it_had_not_been(self, sampler: Sampler, trials: int) -> None:
        whole = search(study(sampler), trials)
        for interrupted in {trials - 1, trials // 2}:
            assert search(study(sampler), trials, interrupted) == whole

    def test_suggestions_differ_and_depend_on_the_seed(self, sampler: Sampler) -> None:
        first = search(study(sampler), 4)
        assert len({json.dumps(params) for params in first}) == 4
        draws = sampler.trials(study(sampler).space, ()) is None
        assert (search(study(sampler, seed=1), 4) != first) == draws, "what has an end draws nothing"

    def test_running_trials_are_adopted_and_several_run_at_once(self, sampler: Sampler) -> None:
        spec = study(sampler)
        sampling = Sampling(spec)
        issued = [sampling.ask(number) for number in range(4)]
        for number in (2, 0, 3):
            end(sampling, number, issued[number][0])
        again = Sampling(spec)
        for number, (params, attributes) in enumerate(issued):
            again.adopt(number, params, attributes)
            if number != 1:
                end(again, number, params)
        params, _ = again.ask(4)
        end(again, 1, issued[1][0])
        end(again, 4, params)
        assert spec.trial(params)

    def test_enqueued_parameters_are_taken_as_they_are(self, sampler: Sampler) -> None:
        sampling = Sampling(study(sampler))
        given = search(study(sampler, seed=2), 2)
        for number, params in enumerate(given):
            assert sampling.ask(number, params)[0] == params
            end(sampling, number, params)
        assert sampling.ask(2)[0] not in given
