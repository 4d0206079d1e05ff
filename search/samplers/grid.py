"""Every combination of values, one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from pydantic import Field

from search.samplers.base import Sampler, SamplerContext, Suggestion
from search.space.parameters import MAX_GRID, Parameter, Params, combinations, identity


class Grid(Sampler):
    """Every combination of the values of the space once, the last parameter varying fastest; blind to results.

    A parameter that is not active in a combination does not multiply it. What is enqueued is not tried again.
    """

    kind: Literal["grid"] = "grid"
    values: int = Field(
        default=5, gt=1, le=1000, description="values of a range without `step`, evenly spaced, both ends included"
    )

    def every(self, space: Mapping[str, Parameter]) -> Iterator[Params]:
        return combinations(space, {path: parameter.spaced(self.values) for path, parameter in space.items()})

    def trials(self, space: Mapping[str, Parameter], enqueued: Collection[Params]) -> int:
        every = {identity(params) for params in itertools.islice(self.every(space), MAX_GRID + 1)}
        return len(every | {identity(params) for params in enqueued})

    def suggest(self, context: SamplerContext) -> Suggestion:
        space = context.problem.space
        tried = {identity(row.params) for row in context.observations if row.origin == "own"}
        untried = (params for params in self.every(space) if identity(params) not in tried)
        # Nothing asks for more than all; whoever does gets the first again.
        return Suggestion(next(itertools.chain(untried, self.every(space))))
