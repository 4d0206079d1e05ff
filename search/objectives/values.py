"""What a measured point is worth: objective values and constraint violations. Pure functions of numbers.

One convention everywhere behind this module: every objective is maximised and lies in [0, 1], and 0 is
the reference of the hypervolume. Measures where less is better are turned round here, and only here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from search.files.fields import bound
from trainables.metrics import CLEAN_ACCURACY, MACS_EFFECTIVE, MEASURES, NONZERO, ROBUST_ACCURACY, SPARSITY
from trainables.store.records import PartialMeasurement, Point

if TYPE_CHECKING:
    from search.study.spec import StudySpec

Measured = Point | PartialMeasurement | Mapping[str, Any]

_WHOLE = {NONZERO: "prunable", MACS_EFFECTIVE: "macs_dense"}
"""What a count is a part of: the same count of the dense network."""

COUNTS = tuple(_WHOLE)
"""Measures that are counts, where the others are fractions."""


def valid(point: Measured, spec: StudySpec | None = None) -> bool:
    """Say whether a point can be compared: nothing that counts is missing, not finite or out of range.

    Accuracies and sparsity always count; with `spec` also what the study's objectives, constraints and target name.
    """
    named = (*spec.objectives, *spec.constraints, *spec.target) if spec else ()
    measures = {ROBUST_ACCURACY, CLEAN_ACCURACY, SPARSITY, *named}
    if _field(point, "status") == "invalid" or _field(point, "tier") == "screened":
        return False
    return all(_share(point, measure) is not None for measure in measures)


def values(point: Measured, spec: StudySpec) -> list[float]:
    """Return the objectives in the study's order, each in [0, 1] and better when larger.

    Raises:
        ValueError: the point is not valid.
    """
    found = []
    for measure in spec.objectives:
        share = _share(point, measure)
        if share is None:
            raise ValueError(f"{measure} is {_field(point, measure)!r}, which cannot be compared; ask `valid` first")
        found.append(1.0 - share if MEASURES[measure] == "minimise" else share)
    return found


def violations(point: Measured, spec: StudySpec) -> list[float]:
    """Return by how much each constraint is missed, in the study's order, as a fraction; 0 and below is met.

    What cannot be measured misses by 1.
    """
    return _missed(point, spec.constraints)


def distances(point: Measured, spec: StudySpec) -> list[float]:
    """Return by how much each bound of the target is missed, as `violations` does."""
    return _missed(point, spec.target)


def _missed(point: Measured, bounds: Mapping[str, str]) -> list[float]:
    found = []
    for measure, text in bounds.items():
        operator, limit = bound(text)
        share = _share(point, measure)
        if share is None:
            found.append(1.0)
            continue
        whole = _field(point, _WHOLE[measure]) if measure in _WHOLE else 1
        # Accuracies are compared as they are: dividing by 1 must not turn 0.75 >= 0.75 into a miss.
        gap = (limit - _field(point, measure)) if operator == ">=" else (_field(point, measure) - limit)
        found.append(gap / whole)
    return found


def feasible(point: Measured, spec: StudySpec) -> bool:
    """Say whether a point meets every constraint."""
    return all(excess <= 0 for excess in violations(point, spec))


def _field(point: Measured, name: str) -> Any:
    return point.get(name) if isinstance(point, Mapping) else getattr(point, name, None)


def _share(point: Measured, measure: str) -> float | None:
    """Return a measure as a fraction in [0, 1], or None where it is none."""
    value = _number(_field(point, measure))
    whole = _number(_field(point, _WHOLE[measure])) if measure in _WHOLE else 1.0
    if value is None or not whole or not 0 <= value / whole <= 1:
        return None
    return value / whole


def _number(value: Any) -> float | None:
    """Accept Python numbers alone: a text, a truth value or a tensor is a defect of whatever reported it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
