"""A Gaussian process, as small as the samplers need it: Matern 5/2 with a length per parameter, and white noise.

The regressor of scikit-learn has no priors, without which any lengths fit a dozen points, and takes six times as long
(150 points, five features, one core); a test compares the two.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

Array = np.ndarray

_ROOT5 = math.sqrt(5)
_LENGTH_SPREAD = math.sqrt(3)
_NOISE = (-4.0, 1.0)
"""Mean and deviation of the logarithm of the noise variance, relative to that of the values."""
_BOUNDS_LENGTH = (math.log(0.02), math.log(200.0))
_BOUNDS_NOISE = (math.log(1e-6), math.log(1.0))
_STEPS = 40


@dataclass(frozen=True)
class Lengths:
    """Hyperparameters: a length for each group of features (groups,), and the noise variance of standardised values."""

    lengths: Array
    noise: float


@dataclass(frozen=True)
class Gaussian:
    """A process conditioned on points.

    Shapes: `x` (n, features) scaled by the lengths, `factor` (n, n) lower triangular, `weights` (n,).
    """

    x: Array
    factor: Array
    weights: Array
    scale: Array
    noise: float
    mean: float
    deviation: float

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation (m,) of the function, without noise, at rows x (m, features)."""
        cross = _matern(_squares(x / self.scale, self.x))[0]
        explained = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        variance = np.clip(1.0 - np.einsum("ij,ij->j", explained, explained), 1e-12, None)
        return self.mean + self.deviation * (cross @ self.weights), self.deviation * np.sqrt(variance)


def condition(x: Array, y: Array, groups: Array, found: Lengths, reference: Array | None = None) -> Gaussian:
    """Condition a process with given hyperparameters on points; `reference` are the values that set its scale.

    Shapes: x (n, features), y (n,), groups (features,), reference (m,).
    """
    reference = y if reference is None else reference
    mean, deviation = float(reference.mean()), _deviation(reference)
    scale = found.lengths[groups]
    scaled = x / scale
    covariance = _matern(_squares(scaled, scaled))[0]
    covariance[np.diag_indices_from(covariance)] += found.noise + 1e-10
    factor = cholesky(covariance, lower=True, check_finite=False)
    weights = cho_solve((factor, True), (y - mean) / deviation, check_finite=False)
    return Gaussian(scaled, factor, weights, scale, found.noise, mean, deviation)


def fit(x: Array, y: Array, groups: Array) -> Lengths:
    """Return the most probable hyperparameters; `groups` is the number of the length that each feature has.

    Features are about in [0, 1]. The last results are cached. Shapes: x (n, features), y (n,), groups (features,).
    Priors: Hvarfner, Hellsten & Nardi 2024, arXiv:2402.02229.
    """
    return _fit(np.asarray(x, float).tobytes(), x.shape, np.asarray(y, float).tobytes(), tuple(groups.tolist()))


@functools.lru_cache(maxsize=16)
def _fit(rows: bytes, shape: tuple[int, int], values: bytes, of_groups: tuple[int, ...]) -> Lengths:
    x, y, groups = np.frombuffer(rows).reshape(shape), np.frombuffer(values), np.array(of_groups, dtype=int)
    count = int(groups.max()) + 1 if len(groups) else 0
    target = (y - y.mean()) / _deviation(y)
    # The mode of a length's own density: that of its logarithm is 20 times as long, and hides what matters for long.
    typical = math.sqrt(2) + 0.5 * math.log(max(1, count)) - _LENGTH_SPREAD**2
    centre = np.array([typical] * count + [_NOISE[0]])
    spread = np.array([_LENGTH_SPREAD] * count + [_NOISE[1]])
    start = np.array([0.0] * count + [_NOISE[0]])
    bounds = [_BOUNDS_LENGTH] * count + [_BOUNDS_NOISE]

    def loss(theta: Array) -> tuple[float, Array]:
        value, slope = evidence(x, target, groups, theta)
        away = (theta - centre) / spread
        return -value + 0.5 * float(away @ away), -slope + away / spread

    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS}).x
    return Lengths(np.exp(best[:count]), math.exp(best[count]))


def evidence(x: Array, y: Array, groups: Array, theta: Array) -> tuple[float, Array]:
    """Return the log marginal likelihood of standardised values, and its gradient in the logarithms `theta`.

    Shapes: x (n, features), y (n,), groups (features,), theta (groups + 1,) with the noise last.
    """
    count = len(theta) - 1
    scaled = x / np.exp(theta[:count])[groups]
    noise = math.exp(theta[count])
    covariance, slope = _matern(_squares(scaled, scaled))
    covariance[np.diag_indices_from(covariance)] += noise + 1e-10
    factor = cholesky(covariance, lower=True, check_finite=False)
    weights = cho_solve((factor, True), y, check_finite=False)
    value = -0.5 * float(y @ weights) - float(np.log(np.diag(factor)).sum()) - 0.5 * len(y) * math.log(2 * math.pi)
    inverse = np.tril(dpotri(factor, lower=1)[0])
    inverse += np.tril(inverse, -1).T
    outer = np.outer(weights, weights) - inverse
    moved = outer * slope
    # The sum over pairs of m_ij (a_i - a_j)^2, a column at a time.
    per_feature = moved.sum(1) @ scaled**2 - np.einsum("ik,ik->k", scaled, moved @ scaled)
    by_group = np.bincount(groups, per_feature, minlength=count) if count else np.zeros(0)
    return value, np.append(by_group, 0.5 * noise * np.trace(outer))


def _deviation(y: Array) -> float:
    spread = float(y.std())
    return spread if spread > 1e-9 else 1.0


def _squares(a: Array, b: Array) -> Array:
    """Return squared distances (rows of a, rows of b)."""
    return np.asarray(np.clip((a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T, 0, None))


def _matern(squares: Array) -> tuple[Array, Array]:
    """Return the Matern 5/2 correlation, and its slope with respect to the logarithm of a length per unit square."""
    distance = _ROOT5 * np.sqrt(squares)
    decay = np.exp(-distance)
    return (1 + distance + distance**2 / 3) * decay, (5 / 3) * (1 + distance) * decay
