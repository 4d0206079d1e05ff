"""Early stopping by the probability that a trial still reaches the front.

The shortfall of a network is what must be added to each of its accuracies before no network that is at least as sparse
is better in all. Trials at the same stage (equally far through the same training, at about the same sparsity) are
compared at the sparsities that they are to have, and a regression predicts the later shortfall to the front from the
shortfall at that stage. It has priors: there is a prediction from the first comparison on, wide at first, and narrower
with every example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.early_stopping.base import Measurement, StoppingRule, aimed
from trainables.metrics import KNOWN

Array = NDArray[np.float64]

WIDTH = 0.35
"""How far apart two sparsities may be to be compared, in units of -ln(1 - sparsity): half of a halving."""

MEMORY = 256
"""The trials that others are compared with: the latest of them."""

NOISE, NOISE_WEIGHT = 0.08, 3.0
"""Prior of the error of a prediction, and how many examples it is worth."""

OFFSET_ERROR, SLOPE_ERROR = 0.05, 0.5
"""Priors of the regression: standard deviations of the offset, around 0, and of the slope, around 1."""


@dataclass(frozen=True)
class Prediction:
    """Predicted shortfalls: Student's t with `freedom` degrees of freedom. Shapes: mean and error (N,)."""

    mean: Array
    error: Array
    freedom: float

    def reaches(self) -> Array:
        """Return the probability of each that there is no shortfall (N,)."""
        from scipy.special import stdtr

        probabilities: Array = stdtr(self.freedom, -self.mean / self.error)
        return probabilities


class ReachRule(StoppingRule):
    """Stop a trial whose epochs to come are likely to be worth less than those of another."""

    def __init__(self, objectives: Sequence[str], worth: float, evidence: int, live: bool = True) -> None:
        """Start without examples; a trial is judged where at least `evidence` others were at the same stage."""
        super().__init__(objectives, live)
        self._worth = worth
        self._evidence = evidence
        self._given = [i for i, name in enumerate(objectives) if name in KNOWN]
        self._learnt = [i for i, name in enumerate(objectives) if name not in KNOWN]
        self._seen: dict[int, list[Measurement]] = {}

    def probabilities(self, number: int, measurement: Measurement) -> tuple[float, float]:
        """Return the probability that a trial reaches the front at the best of its sparsities to come, and others'.

        The second is the mean of those that were at the same stage, had they the same sparsities to come. Both are 1
        where there is nothing to compare with.
        """
        others = self._others(number, measurement)
        if len({other.values for other, _ in others}) < self._evidence or not self._learnt:
            return 1.0, 1.0
        compared = [measurement, *(other for other, _ in others)]
        values = np.array([aimed(one, self.objectives) for one in compared])
        violations = np.array([one.violation for one in compared])
        now = self._shortfalls(values, violations, values, violations, but=np.eye(len(compared), dtype=bool))
        if not math.isfinite(now[0]):  # None of the others is to be as sparse.
            return 1.0, 1.0
        now = np.maximum(now, 0)  # The leader's shortfall is 0: how far it leads predicts little.
        examples = self._examples([points for _, points in others], now[1:])
        best = np.max([self._at_sparsity(now, examples, sparsity) for sparsity in measurement.ahead], axis=0)
        # Trials that share a stage count once.
        distinct = {other.values: probability for (other, _), probability in zip(others, best[1:], strict=True)}
        return float(best[0]), float(np.mean(list(distinct.values())))

    def _hopeless(self, number: int, measurement: Measurement) -> bool:
        own, others = self.probabilities(number, measurement)
        return own < self._worth * others * measurement.left

    def _publish(self, number: int, measurement: Measurement) -> None:
        self._seen.setdefault(number, []).append(measurement)
        if len(self._seen) > MEMORY:
            del self._seen[next(iter(self._seen))]

    def _withdraw(self, number: int) -> None:
        self._seen.pop(number, None)

    def _others(self, number: int, measurement: Measurement) -> list[tuple[Measurement, list[Measurement]]]:
        """Return the measurements of other trials at the same stage, each with the points that followed it."""
        return [
            (other, [later for later in measured[index + 1 :] if later.share == 1])
            for trial, measured in self._seen.items()
            for index, other in enumerate(measured)
            if trial != number
            and other.done == measurement.done
            and abs(other.share - measurement.share) < 1e-3
            and abs(_depth(other.sparsity) - _depth(measurement.sparsity)) <= WIDTH
        ]

    def _examples(self, followed: Sequence[Sequence[Measurement]], now: Array) -> Array:
        """Return a row for each later point: the shortfall at the stage, that of the point, and the point's depth.

        Trials that share stages are one example where they measure the same networks. Shapes: now (M,), returns (N, 3).
        """
        pairs = [(short, point) for short, points in zip(now, followed, strict=True) for point in points]
        if not pairs or not self.front:
            return np.empty((0, 3))
        front = np.array(self.front)
        values = np.array([point.values for _, point in pairs])
        violations = np.array([point.violation for _, point in pairs])
        later = self._shortfalls(values, violations, front, np.zeros(len(front)))
        depth = np.array([_depth(point.sparsity) for _, point in pairs])
        rows = np.stack([np.array([short for short, _ in pairs]), later, depth], axis=1)
        distinct: Array = np.unique(rows[np.isfinite(rows).all(axis=1)], axis=0)
        return distinct

    def _at_sparsity(self, now: Array, examples: Array, sparsity: float) -> Array:
        """Return the probability of reaching the front at a sparsity, from the shortfalls now. Shapes: (M,) each."""
        weight: Array = np.exp(-((examples[:, 2] - _depth(sparsity)) ** 2) / (2 * WIDTH**2))
        return predict(now, examples[:, 0], examples[:, 1], weight).reaches()

    def _shortfalls(self, values: Array, violations: Array, rivals: Array, theirs: Array, but: Any = False) -> Array:
        """Return the shortfall of each row against the rivals without `but`; minus infinity where none is as sparse.

        A constraint that all rivals violate is not a shortfall: early in training no network meets one.

        Shapes: values (N, D), violations (N,), rivals (M, D), theirs (M,), but (N, M); returns (N,).
        """
        gaps = (rivals[None][:, :, self._learnt] - values[:, None][:, :, self._learnt]).min(axis=2)
        as_sparse = (rivals[None][:, :, self._given] >= values[:, None][:, :, self._given]).all(axis=2)
        as_sparse = as_sparse & ~np.asarray(but)
        short = np.where(as_sparse, gaps, -np.inf).max(axis=1)
        least = np.where(as_sparse, np.maximum(theirs, 0)[None], np.inf).min(axis=1)
        more = np.maximum(violations, 0) - least
        shortfalls: Array = np.where(np.isfinite(short) & (more > 0), np.maximum(short, more), short)
        return shortfalls


def _depth(sparsity: float) -> float:
    return -math.log(max(1 - sparsity, 1e-4))


def predict(now: Array, before: Array, after: Array, weight: Array) -> Prediction:
    """Predict later shortfalls from those `now`, given examples of a shortfall before and after.

    Linear regression with a normal prior around offset 0 and slope 1, and a prior of the error.

    Shapes: now (M,); before, after and weight (N,), weights in [0, 1].
    """
    inputs = np.stack([np.ones_like(before), before], axis=1)
    at, expected = np.stack([np.ones_like(now), now], axis=1), np.array([0.0, 1.0])
    freedom = float(weight.sum()) + NOISE_WEIGHT
    noise = NOISE**2
    for _ in range(2):
        prior = np.diag([noise / OFFSET_ERROR**2, noise / SLOPE_ERROR**2])
        precision = prior + inputs.T @ (weight[:, None] * inputs)
        line = np.linalg.solve(precision, prior @ expected + inputs.T @ (weight * after))
        noise = float(weight @ (after - inputs @ line) ** 2 + NOISE_WEIGHT * NOISE**2) / freedom
    error = np.sqrt(noise * (1 + (at @ np.linalg.inv(precision) * at).sum(axis=1)))
    return Prediction(at @ line, error, freedom)
