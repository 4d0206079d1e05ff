"""What measured points are worth: objective values, constraints, Pareto fronts."""

from __future__ import annotations

from search.objectives.values import COUNTS, Measured, distances, feasible, valid, values, violations

__all__ = ["COUNTS", "Measured", "distances", "feasible", "valid", "values", "violations"]
