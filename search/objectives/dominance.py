"""Dominance between two points whose objectives are all maximised, without numpy."""

from __future__ import annotations

from collections.abc import Sequence


def covers(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether a point is at least as good as another in every objective (weak dominance)."""
    return all(a >= b for a, b in zip(one, other, strict=True))


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether a point is at least as good as another in every objective and better in one."""
    return covers(one, other) and tuple(one) != tuple(other)
