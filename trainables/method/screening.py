"""Measuring cheaply first, and in full only where the point may still reach the front."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist

from pydantic import Field

from trainables.core.spec import Spec
from trainables.method.protocol import Protocol
from trainables.metrics import CLEAN_ACCURACY, MEASURES, ROBUST_ACCURACY, wilson


class Screening(Spec):
    """Measure `examples` with the first `steps` steps of the attack before all of it.

    A shorter attack on the same images breaks no more of them, so the upper end of the accuracy's Wilson interval,
    one-sided at `confidence`, is a bound of what the whole protocol would measure.
    """

    examples: int = Field(default=128, gt=0)
    steps: int = Field(default=5, gt=0)
    confidence: float = Field(default=0.99, ge=0.5, lt=1)


class Screen(Screening):
    """A screening against the front as it was when a trial started: its points' objectives, by measure.

    A front only grows, so what this one rules out no later one lets in.
    """

    front: tuple[dict[str, float], ...]

    def protocol(self, full: Protocol) -> Protocol:
        """Return the cheap protocol."""
        return full.cheaper(self.examples, self.steps)

    def rules_out(self, counted: Mapping[str, float], robust: int, clean: int, examples: int) -> bool:
        """Say whether a point of the front is better than all that so many correct examples leave possible.

        `counted` are the measures that are exact: sparsity and counts.
        """
        z = NormalDist().inv_cdf(self.confidence)
        bounds = {ROBUST_ACCURACY: wilson(robust, examples, z)[1], CLEAN_ACCURACY: wilson(clean, examples, z)[1]}
        return any(_dominates(point, {**counted, **bounds}) for point in self.front)


def _dominates(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Say whether `one`, whose measures are the objectives, is at least as good in each and better in one."""
    signs = {name: 1 if MEASURES[name] == "maximise" else -1 for name in one}
    gains = [sign * (one[name] - other[name]) for name, sign in signs.items()]
    return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)
