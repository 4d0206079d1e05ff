"""The sampler `ehvi` in a search whose trials have no training in common, though all is stored and reused as ever.

Each trial has a weight decay of its own, too small to have an effect. The forecasts of all trials have another, so that
the sampler counts on nothing that is stored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from search.samplers import SAMPLERS
from search.samplers.base import SamplerContext, Suggestion
from search.samplers.ehvi.sampler import Ehvi

PATH = "recipe.train.optimiser.weight_decay"
HIGHEST, STEP = 1e-15, 1e-20
"""The weight decay of forecasts, and how far below it that of each trial is: to a model all of them are one."""


class Unshared(Ehvi):
    """`ehvi` without sharing; the study searches `PATH` from 0 to `HIGHEST`."""

    kind: Literal["unshared"] = "unshared"  # type: ignore[assignment]

    def suggest(self, context: SamplerContext) -> Suggestion:
        alone = replace(context, forecast=lambda params: context.forecast({**params, PATH: HIGHEST}))
        found = super().suggest(alone)
        return replace(found, params={**found.params, PATH: HIGHEST - (context.number + 1) * STEP})


SAMPLERS.register("unshared", Unshared)
