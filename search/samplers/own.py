"""Samplers of our own as Optuna's `BaseSampler`: they have no state, and the trial's number alone seeds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits

from search.samplers.ehvi import suggest
from search.samplers.ehvi.surrogate import Observations
from search.space.parameters import Parameter, Params, place

if TYPE_CHECKING:
    from search.samplers.optuna import SamplerContext


TAUGHT = "taught_by"
"""User attribute of Optuna trials that are points of another study; its value is that study's name."""


LEARNED = "learned"
"""User attribute of Optuna trials that gave a point: its place in the order in which points were learned."""


class _OwnSampler(BaseSampler):
    """What they share: parameters are asked for one by one, in the order of the space."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}


class SobolSampler(_OwnSampler):
    """Take the `number`-th point of a scrambled Sobol sequence over a space, a coordinate for each parameter.

    Optuna's own QMC sampler counts in the study's attributes, draws its first trial at random, and
    leaves conditional parameters out; here the number alone decides, so a replay cannot repeat a point.
    Source: Owen 1998, doi:10.1006/jcom.1998.0487 (scrambling).
    """

    def __init__(self, seed: int, number: int, space: Mapping[str, Parameter]) -> None:
        from scipy.stats import qmc

        engine = qmc.Sobol(max(1, len(space)), scramble=True, rng=seed)
        if number:
            engine.fast_forward(number)
        self._space = space
        self._point = dict(zip(space, engine.random(1)[0], strict=False))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return place(float(self._point[param_name]), self._space[param_name])


class EhviSampler(_OwnSampler):
    """Ask `search.samplers.ehvi.suggest` once per trial, with what the study holds by then."""

    def __init__(self, context: SamplerContext, startup: int) -> None:
        self._context = context
        self._startup = startup
        self._chosen: Params = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        others = (other for other in study.get_trials(deepcopy=False) if other.number != trial.number)
        known = told(others, study, list(self._context.spec.bounds()))
        # Several threads gain nothing on such matrices, and sum in another order.
        with threadpool_limits(1):
            self._chosen = suggest.suggest(self._context, known, self._startup)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._chosen[param_name]


def learned(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return those trials that gave a point, in the order in which these were learned."""
    complete = (trial for trial in trials if trial.state == TrialState.COMPLETE)
    return sorted(complete, key=lambda trial: int(trial.user_attrs[LEARNED]))


def told(trials: Iterable[FrozenTrial], study: Study, bounds: Sequence[str]) -> Observations:
    """Read trials of an Optuna study as what it has taught, in the order in which it was learned."""
    by_state: dict[TrialState, list[FrozenTrial]] = {state: [] for state in TrialState}
    for trial in trials:
        by_state[trial.state].append(trial)
    complete = learned(by_state[TrialState.COMPLETE])
    # Other studies teach before the first trial, so that theirs come first.
    lent = sum(TAUGHT in trial.user_attrs for trial in complete)
    values = [trial.values for trial in complete]
    excess = [[missed[name] for name in bounds] for trial in complete if (missed := trial.constraints) is not None]
    return Observations(
        params=[trial.params for trial in complete],
        values=np.array(values, dtype=float).reshape(len(complete), len(study.directions)),
        excess=np.array(excess, dtype=float).reshape(len(complete), len(bounds)),
        # What was stopped early counts as what is expected there: nobody knows better, and it is not asked for again.
        running=[trial.params for state in (TrialState.PRUNED, TrialState.RUNNING) for trial in by_state[state]],
        failed=[trial.params for trial in by_state[TrialState.FAIL]],
        lent=lent,
    )
