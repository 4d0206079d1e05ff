"""Objectives of measured points: values, violations of constraints, Pareto fronts."""

from __future__ import annotations

from search.objectives.values import (
    COUNTS,
    Measured,
    feasible,
    target_violations,
    trusted,
    valid,
    values,
    violations,
)

__all__ = ["COUNTS", "Measured", "feasible", "target_violations", "trusted", "valid", "values", "violations"]
