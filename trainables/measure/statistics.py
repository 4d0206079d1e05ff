"""How sure a count is."""

from __future__ import annotations

from math import comb

CERTAINTY = 0.01
"""The chance of a false alarm that one check takes."""


def exceeds(count: int, trials: int, share: float) -> bool:
    """Return whether `count` of `trials` shows that the true share is above `share`, by the exact one-sided test."""
    if not 0 < count <= trials:
        return False
    at_least = sum(comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(count, trials + 1))
    return at_least < CERTAINTY
