"""The trials that a sampler considers: an even cover of the space, all of a small one, and what lies near good ones."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from search.launch.cost import SPARSITY_PATH
from search.space.parameters import Categorical, FloatRange, IntRange, Parameter, Params, holds, name, place

Space = Mapping[str, Parameter]


def every(space: Space, most: int) -> list[Params] | None:
    """Return all trials of a space that has no more than `most` combinations of values, else None."""
    sides = [_values(parameter) for parameter in space.values()]
    sizes = [len(side) if side is not None else most + 1 for side in sides]
    if math.prod(sizes) > most:
        return None
    found = (searched(space, dict(zip(space, values, strict=True))) for values in itertools.product(*_known(sides)))
    return list({name(params): params for params in found}.values())


def _known(sides: Iterable[Sequence[Any] | None]) -> Iterator[Sequence[Any]]:
    return (side for side in sides if side is not None)


def _values(parameter: Parameter) -> Sequence[Any] | None:
    """Return all values of a parameter, None for a continuum."""
    if isinstance(parameter, Categorical):
        return parameter.choices
    if isinstance(parameter, IntRange):
        return range(parameter.low, parameter.high + 1, 1 if parameter.log else parameter.step or 1)
    assert isinstance(parameter, FloatRange)
    if parameter.low == parameter.high:
        return (parameter.low,)
    if parameter.step is None:
        return None
    count = round((parameter.high - parameter.low) / parameter.step) + 1
    return [min(parameter.low + at * parameter.step, parameter.high) for at in range(count)]


def searched(space: Space, values: Mapping[str, Any]) -> Params:
    """Keep of values for all parameters those that are searched together."""
    kept: Params = {}
    for path, parameter in space.items():
        if holds(parameter, kept):
            kept[path] = values[path]
    return kept


def spread(space: Space, count: int, seed: int, start: int = 0) -> list[Params]:
    """Return trials `start` to `start + count` of a scrambled Sobol sequence over the space."""
    return [
        searched(space, {path: place(share, space[path]) for path, share in zip(space, row, strict=False)})
        for row in _sobol(max(1, len(space)), count, seed, start)
    ]


@functools.lru_cache(maxsize=16)
def _sobol(dimensions: int, count: int, seed: int, start: int) -> list[list[float]]:
    from scipy.stats import qmc

    engine = qmc.Sobol(dimensions, scramble=True, rng=seed)
    if start:
        engine.fast_forward(start)
    # The sequence is even at powers of 2; scipy warns about every other number.
    shares = engine.random_base2(math.ceil(math.log2(count)))[:count] if not start else engine.random(count)
    return [[float(share) for share in row] for row in shares]


def near(space: Space, params: Params, draw: np.random.Generator, count: int) -> list[Params]:
    """Return trials that differ from one in a parameter or two, numbers by a little, the rest by anything."""
    if not space:
        return []
    paths = list(space)
    found = []
    for _ in range(count):
        values = {path: params.get(path, place(draw.random(), parameter)) for path, parameter in space.items()}
        for path in draw.choice(paths, size=min(len(paths), 1 + (draw.random() < 0.3)), replace=False):
            values[path] = _moved(space[path], values[path], draw)
        found.append(searched(space, values))
    return found


def _moved(parameter: Parameter, value: Any, draw: np.random.Generator) -> Any:
    if isinstance(parameter, Categorical):
        others = [choice for choice in parameter.choices if choice != value] or [value]
        return others[int(draw.integers(len(others)))]
    assert isinstance(parameter, (FloatRange, IntRange))
    low, high = (math.log(x) if parameter.log else x for x in (parameter.low, parameter.high))
    at = (math.log(value) if parameter.log else value) - low
    share = at / (high - low) if high > low else 0.0
    return place(min(max(share + 0.15 * draw.standard_normal(), 0.0), 1 - 1e-9), parameter)


def sparsities(space: Space, params: Params, shares: Iterable[float]) -> list[Params]:
    """Return a trial at other sparsities, so far along the logarithm of what is left."""
    parameter = space.get(SPARSITY_PATH)
    if parameter is None or SPARSITY_PATH not in params:
        return []
    if isinstance(parameter, Categorical):
        rising = parameter.model_copy(update={"choices": tuple(sorted(parameter.choices))})
        return [{**params, SPARSITY_PATH: place(min(share, 1 - 1e-9), rising)} for share in shares]
    assert isinstance(parameter, (FloatRange, IntRange))
    low, high = (math.log1p(-min(bound, 1 - 1e-9)) for bound in (parameter.low, parameter.high))
    width = parameter.high - parameter.low
    found = []
    for share in shares:
        value = -math.expm1(low + share * (high - low))
        at = (value - parameter.low) / width if width else 0.0
        found.append({**params, SPARSITY_PATH: place(min(max(at, 0.0), 1 - 1e-12), parameter)})
    return found
