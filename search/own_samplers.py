"""Samplers of our own as Optuna's `BaseSampler`: they have no state, and the trial's number alone seeds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.encoding import place
from search.space import Parameter


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
