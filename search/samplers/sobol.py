"""Scrambled Sobol sequences over a space, and the sampler that follows one.

Optuna's own QMC sampler counts in the study's attributes, draws its first trial at random, and leaves conditional
parameters out; here the number of a trial alone decides, so a resumed search cannot repeat a point.
Source: Owen 1998, doi:10.1006/jcom.1998.0487 (scrambling).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Literal

from search.samplers.base import Sampler, SamplerContext, Suggestion
from search.space.parameters import Parameter, Params, searched, value_at
from trainables.core.rng import derive


class Qmc(Sampler):
    """A scrambled Sobol sequence: even cover of the space, blind to results. Trial n takes its n-th point."""

    kind: Literal["qmc"] = "qmc"

    def suggest(self, context: SamplerContext) -> Suggestion:
        return Suggestion(sobol_trial(context))

    def load(self) -> None:
        load()


def load() -> None:
    """Import what the sequence needs, which takes a quarter of a second."""
    from scipy.stats import qmc  # noqa: F401


def sobol_trial(context: SamplerContext) -> Params:
    """Return a trial's own point of the sequence that all trials of the study share."""
    return sobol_trials(context.problem.space, 1, derive(context.seed, "sobol") % 2**32, context.number)[0]


def sobol_trials(space: Mapping[str, Parameter], count: int, seed: int, start: int = 0) -> list[Params]:
    """Return trials `start` to `start + count` of a scrambled Sobol sequence over a space."""
    return [
        searched(space, {path: value_at(share, space[path]) for path, share in zip(space, row, strict=False)})
        for row in sobol_points(max(1, len(space)), count, seed, start)
    ]


@functools.lru_cache(maxsize=16)
def sobol_points(dimensions: int, count: int, seed: int, start: int = 0) -> list[list[float]]:
    """Return points `start` to `start + count` of a scrambled Sobol sequence in the unit cube.

    Shapes: (count, dimensions).
    """
    from scipy.stats import qmc

    engine = qmc.Sobol(dimensions, scramble=True, rng=seed)
    if start:
        engine.fast_forward(start)
    # The sequence is even at powers of 2; scipy warns about every other number.
    points = engine.random_base2(math.ceil(math.log2(count)))[:count] if not start else engine.random(count)
    return [[float(share) for share in row] for row in points]
