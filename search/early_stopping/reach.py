"""Early stopping by the chance that a trial still reaches the front.

The shortfall of a network is what must be added to each of its accuracies before nothing at least as sparse is better
in all. Trials at the same place (as far through the same training, with about the same sparsity) are compared with each
other at the sparsities they aim at, and what a shortfall there means for the shortfall to the front later is learnt
from the trials that have been at both: a regression with priors, so that there is a forecast from the first
comparison on, wide at first, and narrower with every example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.early_stopping.base import Report, Stopping, aimed
from trainables.metrics import KNOWN

Array = NDArray[np.float64]

WIDTH = 0.35
"""How far apart two sparsities may be to tell of each other, in units of -ln(1 - sparsity): half of a halving."""

MEMORY = 256
"""Trials that are compared with: the latest so many."""

NOISE, NOISE_WEIGHT = 0.08, 3.0
"""What is believed of the error of a forecast before any example, and how many examples that is worth."""

OFFSET_ERROR, SLOPE_ERROR = 0.05, 0.5
"""How surely a shortfall is believed to stay as it is: standard deviations of the regression's offset and slope."""


@dataclass(frozen=True)
class Foretold:
    """Shortfalls to come: Student's t with `freedom` degrees of freedom around `mean`, `error` wide, (N,) each."""

    mean: Array
    error: Array
    freedom: float

    def chances(self) -> Array:
        """Return the probability of each that there is no shortfall."""
        from scipy.special import stdtr

        found: Array = stdtr(self.freedom, -self.mean / self.error)
        return found


class Reaching(Stopping):
    """Stop a trial whose epochs to come are likely to be worth less than those of another."""

    def __init__(self, objectives: Sequence[str], worth: float, evidence: int, live: bool = True) -> None:
        """Start without examples; a trial is judged where at least `evidence` others have been."""
        super().__init__(objectives, live)
        self._worth = worth
        self._evidence = evidence
        self._given = [i for i, name in enumerate(objectives) if name in KNOWN]
        self._learnt = [i for i, name in enumerate(objectives) if name not in KNOWN]
        self._seen: dict[int, list[Report]] = {}

    def chances(self, number: int, report: Report) -> tuple[float, float]:
        """Return a trial's chance to reach the front at the best of its sparsities to come, and others' from there.

        The second is the mean of those that were at the same place, had they the same sparsities to come. Both are 1
        where there is nothing to go by.
        """
        visits = self._visits(number, report)
        if len({place.values for place, _ in visits}) < self._evidence or not self._learnt:
            return 1.0, 1.0
        places = [report, *(place for place, _ in visits)]
        values = np.array([aimed(place, self.objectives) for place in places])
        excess = np.array([place.excess for place in places])
        now = self._shortfalls(values, excess, values, excess, but=np.eye(len(places), dtype=bool))
        if not math.isfinite(now[0]):  # Nobody who was here aims at as sparse a network.
            return 1.0, 1.0
        now = np.maximum(now, 0)  # Whoever leads falls short of nothing: how far it leads says little.
        examples = self._examples([points for _, points in visits], now[1:])
        chances = np.max([self._chances(now, examples, sparsity) for sparsity in report.ahead], axis=0)
        # Trials that share a stage are one visitor.
        others = {place.values: chance for (place, _), chance in zip(visits, chances[1:], strict=True)}
        return float(chances[0]), float(np.mean(list(others.values())))

    def _hopeless(self, number: int, report: Report) -> bool:
        mine, others = self.chances(number, report)
        return mine < self._worth * others * report.left

    def _show(self, number: int, report: Report) -> None:
        self._seen.setdefault(number, []).append(report)
        if len(self._seen) > MEMORY:
            del self._seen[next(iter(self._seen))]

    def _forget(self, number: int) -> None:
        self._seen.pop(number, None)

    def _visits(self, number: int, report: Report) -> list[tuple[Report, list[Report]]]:
        """Return the reports of others from the same place, each with the points that followed it."""
        return [
            (place, [later for later in reports[index + 1 :] if later.share == 1])
            for other, reports in self._seen.items()
            for index, place in enumerate(reports)
            if other != number
            and place.done == report.done
            and abs(place.share - report.share) < 1e-3
            and abs(_depth(place.sparsity) - _depth(report.sparsity)) <= WIDTH
        ]

    def _examples(self, followed: Sequence[Sequence[Report]], now: Array) -> Array:
        """Return rows of a shortfall at the place, the shortfall at a later point, and that point's depth.

        Trials that share stages are one example where they report the same networks.
        """
        pairs = [(short, point) for short, points in zip(now, followed, strict=True) for point in points]
        if not pairs or not self.front:
            return np.empty((0, 3))
        front = np.array(self.front)
        values = np.array([point.values for _, point in pairs])
        excess = np.array([point.excess for _, point in pairs])
        later = self._shortfalls(values, excess, front, np.zeros(len(front)))
        depth = np.array([_depth(point.sparsity) for _, point in pairs])
        rows = np.stack([np.array([short for short, _ in pairs]), later, depth], axis=1)
        distinct: Array = np.unique(rows[np.isfinite(rows).all(axis=1)], axis=0)
        return distinct

    def _chances(self, now: Array, examples: Array, sparsity: float) -> Array:
        weight: Array = np.exp(-((examples[:, 2] - _depth(sparsity)) ** 2) / (2 * WIDTH**2))
        return foretell(now, examples[:, 0], examples[:, 1], weight).chances()

    def _shortfalls(self, values: Array, excess: Array, rivals: Array, theirs: Array, but: Any = False) -> Array:
        """Return each row's shortfall against the rivals, `but` those; minus infinity where none left is as sparse.

        A constraint that all rivals miss is no shortfall: early in training nobody meets one.

        Shapes: values (N, D), excess (N,), rivals (M, D), theirs (M,), but (N, M).
        """
        gaps = (rivals[None][:, :, self._learnt] - values[:, None][:, :, self._learnt]).min(axis=2)
        there = (rivals[None][:, :, self._given] >= values[:, None][:, :, self._given]).all(axis=2) & ~np.asarray(but)
        short = np.where(there, gaps, -np.inf).max(axis=1)
        missed = np.maximum(excess, 0) - np.where(there, np.maximum(theirs, 0)[None], np.inf).min(axis=1)
        found: Array = np.where(np.isfinite(short) & (missed > 0), np.maximum(short, missed), short)
        return found


def _depth(sparsity: float) -> float:
    return -math.log(max(1 - sparsity, 1e-4))


def foretell(now: Array, before: Array, after: Array, weight: Array) -> Foretold:
    """Foretell shortfalls from those `now`, and from examples of shortfalls before and after.

    Linear regression with a normal prior around offset 0 and slope 1, and a prior of the error.

    Shapes: now (M,); before, after and weight (N,), weights in [0, 1].
    """
    inputs = np.stack([np.ones_like(before), before], axis=1)
    at, believed = np.stack([np.ones_like(now), now], axis=1), np.array([0.0, 1.0])
    freedom = float(weight.sum()) + NOISE_WEIGHT
    noise = NOISE**2
    for _ in range(2):
        prior = np.diag([noise / OFFSET_ERROR**2, noise / SLOPE_ERROR**2])
        precision = prior + inputs.T @ (weight[:, None] * inputs)
        line = np.linalg.solve(precision, prior @ believed + inputs.T @ (weight * after))
        noise = float(weight @ (after - inputs @ line) ** 2 + NOISE_WEIGHT * NOISE**2) / freedom
    error = np.sqrt(noise * (1 + (at @ np.linalg.inv(precision) * at).sum(axis=1)))
    return Foretold(at @ line, error, freedom)
