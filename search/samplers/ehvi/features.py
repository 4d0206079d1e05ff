"""Parameters as numbers: trials as rows of features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.space.parameters import SPARSITY_PATH, FloatRange, IntRange, Parameter, Params, numbers

Array = np.ndarray

_WIDE = 10.0
"""Numeric choices are spaced by their logarithms where the largest is this many times the smallest positive one."""


@dataclass(frozen=True)
class _Axis:
    """The features of one parameter: `width` columns, all at `absent` where the parameter is not searched."""

    width: int
    absent: float
    row: Callable[[Any], Sequence[float]]


class Encoder:
    """Trials as rows of features for a model of the results, each about in [0, 1].

    Numbers keep their scale (the logarithm where it is searched, or choices span powers of ten); sparsity is scaled by
    the logarithm of 1 - sparsity; other choices have a column each, at equal distances.

    Shapes: `groups` (features,) is the number of the parameter that a column belongs to.
    """

    def __init__(self, space: Mapping[str, Parameter]) -> None:
        """Choose a scale for each parameter."""
        self._axes = {path: _axis(path, parameter) for path, parameter in space.items()}
        widths = [axis.width for axis in self._axes.values() if axis.width]
        self.groups = np.repeat(np.arange(len(widths)), widths)

    def rows(self, trials: Sequence[Params]) -> Array:
        """Return the features of trials (trials, features)."""
        columns = []
        for path, axis in self._axes.items():
            if axis.width:
                absent = [axis.absent] * axis.width
                columns.append([axis.row(params[path]) if path in params else absent for params in trials])
        if not columns:
            return np.zeros((len(trials), 0))
        return np.concatenate([np.asarray(part, float).reshape(len(trials), -1) for part in columns], axis=1)


def _axis(path: str, parameter: Parameter) -> _Axis:
    values = list(parameter.extremes().values())
    known = numbers(values)
    if len(values) == 1:
        return _Axis(0, 0.0, lambda value: ())
    if path == SPARSITY_PATH and known is not None and max(known) < 1:
        least = -math.log1p(-max(known))
        return _Axis(1, 0.5, lambda value: (-math.log1p(-value) / least,))
    if isinstance(parameter, (FloatRange, IntRange)):
        low, high = _scaled(parameter.low, parameter.log), _scaled(parameter.high, parameter.log)
        return _Axis(1, 0.5, lambda value: ((_scaled(value, parameter.log) - low) / (high - low),))
    if len(values) == 2 or known is not None:
        spots = _spots(known) if known is not None else [0.0, 1.0]
        return _Axis(1, 0.5, _chosen(values, [(spot,) for spot in spots]))
    beside = [[math.sqrt(0.5) if at == own else 0.0 for at in range(len(values))] for own in range(len(values))]
    return _Axis(len(values), 0.0, _chosen(values, beside))


def _chosen(choices: Sequence[Any], rows: Sequence[Sequence[float]]) -> Callable[[Any], Sequence[float]]:
    """Return what finds a choice's row; 1 and 1.0, and a choice that was read from JSON, are the same."""
    known: dict[Any, Sequence[float]] = {}

    def row(value: Any) -> Sequence[float]:
        try:
            return known[value]
        except TypeError:  # A list of values cannot be looked up.
            return rows[choices.index(value)]
        except KeyError:
            known[value] = found = rows[choices.index(value)]
            return found

    return row


def _scaled(value: float, log: bool) -> float:
    return math.log(value) if log else float(value)


def _spots(values: Sequence[float]) -> list[float]:
    """Return where numeric choices lie in [0, 1]; 0 among powers of ten lies one mean step below the smallest."""
    positive = sorted(value for value in values if value > 0)
    if min(values) >= 0 and len(positive) > 1 and positive[-1] >= _WIDE * positive[0]:
        step = (math.log(positive[-1]) - math.log(positive[0])) / (len(positive) - 1)
        values = [math.log(value) if value > 0 else math.log(positive[0]) - step for value in values]
    low, high = min(values), max(values)
    return [(value - low) / (high - low) for value in values]
