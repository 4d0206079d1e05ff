"""Screening: a cheap measurement first, and a full one only if the point may still reach the front."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist

from pydantic import Field

from trainables.core.spec import Spec
from trainables.method.protocol import Protocol
from trainables.metrics import CLEAN_ACCURACY, MEASURES, ROBUST_ACCURACY, wilson


class Screening(Spec):
    """Measure with fewer examples and attack steps before the full protocol.

    A shorter attack on the same images breaks no more of them, so the upper end of the accuracy's Wilson interval is a
    bound of what the full protocol would measure.
    """

    examples: int = Field(default=128, gt=0, description="examples of the cheap measurement")
    steps: int = Field(default=5, gt=0, description="attack steps of the cheap measurement")
    confidence: float = Field(default=0.99, ge=0.5, lt=1, description="of the one-sided Wilson interval")


class Screen(Screening):
    """A screening against the front at the start of a trial. What this front rules out every later one does too."""

    front: tuple[dict[str, float], ...] = Field(description="the objectives of its points, by measure")

    def protocol(self, full: Protocol) -> Protocol:
        """Return the cheap protocol."""
        return full.cheaper(self.examples, self.steps)

    def rules_out(self, counted: Mapping[str, float], robust: int, clean: int, examples: int) -> bool:
        """Return whether a point of the front dominates the best that `robust` and `clean` correct examples allow.

        `counted` are the measures that are exact: sparsity and counts.
        """
        z = NormalDist().inv_cdf(self.confidence)
        bounds = {ROBUST_ACCURACY: wilson(robust, examples, z)[1], CLEAN_ACCURACY: wilson(clean, examples, z)[1]}
        return any(_dominates(point, {**counted, **bounds}) for point in self.front)


def _dominates(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Return whether `one`, whose measures are the objectives, is at least as good in each and better in one."""
    signs = {name: 1 if MEASURES[name] == "maximise" else -1 for name in one}
    gains = [sign * (one[name] - other[name]) for name, sign in signs.items()]
    return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)
