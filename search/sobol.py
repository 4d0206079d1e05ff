"""A scrambled Sobol sequence as an Optuna sampler that has no state."""

from __future__ import annotations

import math
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial


class SobolSampler(BaseSampler):
    """Take the `number`-th point of the sequence over the parameters `names`, a coordinate each.

    Optuna's own QMC sampler counts in the study's attributes, draws its first trial at random, and
    leaves conditional parameters out; here the number alone decides, so a replay cannot repeat a point.
    Source: Owen 1998, doi:10.1006/jcom.1998.0487 (scrambling).
    """

    def __init__(self, seed: int, number: int, names: tuple[str, ...]) -> None:
        from scipy.stats import qmc

        engine = qmc.Sobol(max(1, len(names)), scramble=True, rng=seed)
        if number:
            engine.fast_forward(number)
        self._point = dict(zip(names, engine.random(1)[0], strict=False))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return place(float(self._point[param_name]), param_distribution)


def place(share: float, distribution: BaseDistribution) -> Any:
    """Return the value that lies `share` in [0, 1) of the way through a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high, step = distribution.low, distribution.high, distribution.step
    whole = isinstance(distribution, IntDistribution)
    if distribution.log:
        # A whole number owns half a unit on either side, as it does in Optuna's own samplers.
        margin = 0.5 if whole else 0.0
        value = math.exp(math.log(low - margin) + share * (math.log(high + margin) - math.log(low - margin)))
    elif step is not None:
        value = low + int(share * (round((high - low) / step) + 1)) * step
    else:
        value = low + share * (high - low)
    value = min(max(value, low), high)
    return round(value) if whole else value
