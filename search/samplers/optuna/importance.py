"""Which parameters matter for reaching the front, by Optuna's PED-ANOVA. Importing this module loads Optuna."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import create_trial

from search.samplers.optuna.study import distribution
from search.space.parameters import Categorical, FloatRange, IntRange, Parameter

LEAST = 10
"""How many points there must be."""
MOST = 1000
"""How many points are read, the last ones: ranking them takes time."""
_TOP, _LEAST_TOP = 0.1, 5
"""The part of the points that counts as near the front, and how many that are at least."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Importance:
    """How much each parameter matters, as shares of their sum, the most important first.

    `top` of `points` points count as near the front.
    """

    shares: dict[str, float]
    top: int
    points: int


def importance(
    space: Mapping[str, Parameter], points: Sequence[tuple[Mapping[str, Any], Sequence[float] | None]]
) -> Importance | None:
    """Return how much each parameter matters for a point to be near the front; None where there are too few points.

    Points are parameters and values, which are maximised above 0; None are the values of a point that cannot be on the
    front. A point outside of the space, such as the dense network on the way of a trial, does not count.
    Source: Watanabe et al. 2023, arXiv:2304.10255.
    """
    known = (FloatRange, IntRange, Categorical)  # No other kind, of a plug-in, has a form of Optuna's.
    distributions = {path: distribution(parameter) for path, parameter in space.items() if isinstance(parameter, known)}
    readable = [({path: params[path] for path in params if path in distributions}, values) for params, values in points]
    inside = [(params, values) for params, values in readable if _inside(params, distributions)][-MOST:]
    width = max((len(values) for _, values in inside if values is not None), default=0)
    if len(inside) < LEAST or not width:
        return None
    study = optuna.create_study(directions=["maximize"] * width)
    study.add_trials(
        [
            create_trial(
                params=dict(params),
                distributions={path: distributions[path] for path in params},
                values=[0.0] * width if values is None else list(values),
            )
            for params, values in inside
        ]
    )
    share = max(_TOP, _LEAST_TOP / len(inside))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The class is marked as experimental, and what it warns of is meant so.
        found = PedAnovaImportanceEvaluator(target_quantile=share).evaluate(study)
    finite = {path: value for path, value in found.items() if math.isfinite(value)}
    total = sum(finite.values())
    shares = {path: value / total if total else 0.0 for path, value in finite.items()}
    ordered = dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))
    return Importance(ordered, math.ceil(share * len(inside)), len(inside)) if ordered else None


def _inside(params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> bool:
    for path, value in params.items():
        domain = distributions[path]
        try:
            if not domain._contains(domain.to_internal_repr(value)):
                return False
        except (TypeError, ValueError):
            return False
    return bool(params)
