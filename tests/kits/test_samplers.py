"""Every registered sampler, by its kit."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from optuna.samplers import BaseSampler, TPESampler
from scipy.stats.qmc import Halton as Halton_

from search.samplers import SAMPLERS, Sampler
from search.samplers.base import SamplerContext, Suggestion, trial_seed
from search.samplers.optuna import OptunaSampler
from search.space.parameters import searched, value_at
from search.testing import samplers as kit
from search.testing.samplers import SamplerKit

EARLY = {"n_startup_trials": 3, "population_size": 4}
"""Settings with which a sampler stops drawing at random soon, where it has them."""
SLOW = {"gp": 5}
"""Trials for samplers whose suggestions take long."""
BRIEF = {"ehvi": 8}
"""Trials for samplers whose suggestions take a tenth of a second; its own tests show what it learns."""
KINDS = [pytest.param(kind, marks=[pytest.mark.slow] if kind in SLOW else []) for kind in SAMPLERS]


def sampler_of(kind: str) -> Sampler:
    fields = SAMPLERS[kind].model_fields
    return SAMPLERS.parse({"kind": kind, **{name: value for name, value in EARLY.items() if name in fields}})


def trials_of(kind: str) -> int:
    return (SLOW | BRIEF).get(kind, 24)


class TestSamplers(SamplerKit):
    @pytest.fixture(params=KINDS)
    def sampler(self, request: pytest.FixtureRequest) -> Sampler:
        return sampler_of(request.param)

    @pytest.fixture
    def trials(self, sampler: Sampler) -> int:
        return trials_of(sampler.kind)


class Halton(Sampler):
    """A sampler as a plug-in would define it: trial n takes the n-th point of a scrambled Halton sequence."""

    kind: Literal["halton"] = "halton"

    def suggest(self, context: SamplerContext) -> Suggestion:
        space = context.problem.space
        engine = Halton_(len(space), rng=context.seed)
        engine.fast_forward(context.number)
        shares = zip(space, engine.random(1)[0].tolist(), strict=True)
        return Suggestion(searched(space, {path: value_at(share, space[path]) for path, share in shares}))


class Independent(OptunaSampler):
    """A sampler of Optuna as a plug-in would add it."""

    kind: Literal["independent"] = "independent"

    def build(self, context: SamplerContext) -> BaseSampler:
        return TPESampler(n_startup_trials=3, seed=trial_seed(context))


class TestSamplersOfOthers(SamplerKit):
    @pytest.fixture(params=[Halton, Independent])
    def sampler(self, request: pytest.FixtureRequest) -> Sampler:
        kind: type[Sampler] = request.param
        return kind()


@pytest.mark.parametrize("kind", [kind for kind in SAMPLERS if kind not in SLOW])
@pytest.mark.slow
def test_another_process_suggests_the_same(kind: str) -> None:
    sampler, trials = sampler_of(kind), min(12, trials_of(kind))
    assert kit.in_another_process(sampler, trials) == kit.search(kit.study(sampler), trials)


def late(kind: str, path: str) -> list[Any]:
    """The values of a parameter in the second half of 60 trials, over four seeds."""
    searches = (kit.search(kit.study(sampler_of(kind), seed), 60) for seed in range(4))
    return [params[path] for found in searches for params in found[30:]]


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
@pytest.mark.slow
def test_constraints_keep_the_search_where_they_are_met(kind: str) -> None:
    """Feasible is a sparsity of at most 0.8, which a blind search exceeds in a fifth of its trials."""
    found = late(kind, "recipe.sparsity")
    assert sum(sparsity > 0.8 for sparsity in found) / len(found) < 0.13


@pytest.mark.parametrize("kind", [kind for kind in SAMPLERS if kind not in ("random", "qmc", "grid", *SLOW, *BRIEF)])
@pytest.mark.slow
def test_samplers_learn_what_is_better(kind: str) -> None:
    """Epochs only help: late trials should take many of them more often than a third of the time."""
    found = late(kind, "recipe.epochs")
    assert found.count(30) / len(found) > 0.45


def test_a_sampler_that_suggests_nothing_is_no_sampler() -> None:
    with pytest.raises(TypeError, match="suggest"):
        Sampler(kind="x")  # type: ignore[abstract]
