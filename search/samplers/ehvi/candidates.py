"""The trials that a sampler considers: all of a small space, neighbours of a trial, and its other sparsities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from search.space.parameters import (
    SPARSITY_PATH,
    Categorical,
    FloatRange,
    IntRange,
    Parameter,
    Params,
    identity,
    searched,
    value_at,
)

Space = Mapping[str, Parameter]


def all_trials(space: Space, most: int) -> list[Params] | None:
    """Return all trials of a space with at most `most` combinations of values; None for a larger one."""
    sides = [_values(parameter) for parameter in space.values()]
    sizes = [len(side) if side is not None else most + 1 for side in sides]
    if math.prod(sizes) > most:
        return None
    found = (searched(space, dict(zip(space, values, strict=True))) for values in itertools.product(*_known(sides)))
    return list({identity(params): params for params in found}.values())


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
    return [parameter.on_grid(at, parameter.step) for at in range(count)]


def near(space: Space, params: Params, draw: np.random.Generator, count: int) -> list[Params]:
    """Return trials that differ from one in one or two parameters: numbers by a little, choices by any other."""
    if not space:
        return []
    paths = list(space)
    found = []
    for _ in range(count):
        values = {path: params.get(path, value_at(draw.random(), parameter)) for path, parameter in space.items()}
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
    return value_at(share + 0.15 * draw.standard_normal(), parameter)


def at_sparsities(space: Space, params: Params, shares: Iterable[float]) -> list[Params]:
    """Return a trial at other sparsities: at each share, in [0, 1], of the range of the logarithm of 1 - sparsity."""
    parameter = space.get(SPARSITY_PATH)
    if parameter is None or SPARSITY_PATH not in params:
        return []
    if isinstance(parameter, Categorical):
        rising = parameter.model_copy(update={"choices": tuple(sorted(parameter.choices))})
        return [{**params, SPARSITY_PATH: value_at(share, rising)} for share in shares]
    assert isinstance(parameter, (FloatRange, IntRange))
    low, high = (math.log1p(-min(bound, 1 - 1e-9)) for bound in (parameter.low, parameter.high))
    width = parameter.high - parameter.low
    found = []
    for share in shares:
        value = -math.expm1(low + share * (high - low))
        # Exactly the bound, not a number beside it that would be trained anew.
        at = (value - parameter.low) / width if width and share < 1 else share
        found.append({**params, SPARSITY_PATH: value_at(at, parameter)})
    return found
