"""What a measured point is worth: objective values and constraint violations. Pure functions of numbers.

One convention everywhere behind this module: every objective is maximised and lies in [0, 1], and 0 is
the reference of the hypervolume. Only this module inverts measures where less is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from search.files.fields import bound
from search.objectives.problem import Goals
from trainables.metrics import CLEAN_ACCURACY, MACS_EFFECTIVE, MEASURES, NONZERO, ROBUST_ACCURACY, SPARSITY
from trainables.store.flags import questioned
from trainables.store.records import PartialMeasurement, Point

Measured = Point | PartialMeasurement | Mapping[str, Any]

_WHOLE = {NONZERO: "prunable", MACS_EFFECTIVE: "macs_dense"}
"""The same count of the dense network, of which a count is a part."""

COUNTS = tuple(_WHOLE)
"""Measures that are counts, where the others are fractions."""


def valid(point: Measured, goals: Goals | None = None) -> bool:
    """Return whether a point can be compared: no measure that counts is missing, not finite or out of range.

    Accuracies and sparsity always count; with `goals` so do the measures that they name.
    """
    named = (*goals.objectives, *goals.constraints, *goals.target) if goals else ()
    measures = {ROBUST_ACCURACY, CLEAN_ACCURACY, SPARSITY, *named}
    if _field(point, "status") == "invalid" or _field(point, "tier") == "screened":
        return False
    return all(_share(point, measure) is not None for measure in measures)


def trusted(point: Measured, goals: Goals | None = None) -> bool:
    """Return whether anything may be learned from a point: it is valid, and no flag questions its robust accuracy.

    What is valid and questioned is shown, with its flags; no sampler is rewarded for it.
    """
    return valid(point, goals) and not questioned(_field(point, "flags") or ())


def values(point: Measured, goals: Goals) -> list[float]:
    """Return the objectives in the order of `goals`, each in [0, 1] and better when larger.

    Raises:
        ValueError: the point is not valid.
    """
    found = []
    for measure in goals.objectives:
        share = _share(point, measure)
        if share is None:
            raise ValueError(f"{measure} is {_field(point, measure)!r}, which cannot be compared; ask `valid` first")
        found.append(1.0 - share if MEASURES[measure] == "minimise" else share)
    return found


def violations(point: Measured, goals: Goals) -> list[float]:
    """Return the violation of each constraint in the order of `goals`, as a fraction; at 0 and below it is met.

    The violation of what cannot be measured is 1.
    """
    return _violations(point, goals.constraints)


def target_violations(point: Measured, goals: Goals) -> list[float]:
    """Return the violation of each bound of the target, as `violations` does."""
    return _violations(point, goals.target)


def _violations(point: Measured, bounds: Mapping[str, str]) -> list[float]:
    found = []
    for measure, text in bounds.items():
        operator, limit = bound(text)
        share = _share(point, measure)
        if share is None:
            found.append(1.0)
            continue
        whole = _field(point, _WHOLE[measure]) if measure in _WHOLE else 1
        # Accuracies are compared as they are: dividing by 1 must not turn 0.75 >= 0.75 into a violation.
        value = _field(point, measure)
        violation = (limit - value) if operator == ">=" else (value - limit)
        found.append(violation / whole)
    return found


def feasible(point: Measured, goals: Goals) -> bool:
    """Return whether a point meets every constraint."""
    return all(violation <= 0 for violation in violations(point, goals))


def _field(point: Measured, name: str) -> Any:
    return point.get(name) if isinstance(point, Mapping) else getattr(point, name, None)


def _share(point: Measured, measure: str) -> float | None:
    """Return a measure as a fraction in [0, 1]; None where it is missing or out of range."""
    value = _number(_field(point, measure))
    whole = _number(_field(point, _WHOLE[measure])) if measure in _WHOLE else 1.0
    if value is None or not whole or not 0 <= value / whole <= 1:
        return None
    return value / whole


def _number(value: Any) -> float | None:
    """Return a Python number as a float; None for anything else, such as a text or a tensor."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
