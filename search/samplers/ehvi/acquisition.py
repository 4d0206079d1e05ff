"""How much a trial is expected to add to a front. Pure functions of numbers.

Values are those of `search.objectives.values`: every objective maximised, 0 the reference. Of two objectives
one is known before a trial trains: then the front is a staircase, and the expectation a sum over its steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import moocore
import numpy as np
from scipy.special import ndtr, ndtri

from search.samplers.sobol import sobol_points

Array = np.ndarray


def expected(mean: Array, deviation: Array, best: Array, floor: float = -math.inf) -> Array:
    """Return the expectation of max(0, r - best) for a normal r; a deviation of 0 is a certain value.

    An r below `floor` gains nothing. Shapes: mean, deviation and best are broadcast to one shape, which is returned.
    Source: Jones, Schonlau & Welch 1998, doi:10.1023/A:1008306431147 (expected improvement).
    """
    mean, deviation, best = np.broadcast_arrays(mean, deviation, best)
    if math.isfinite(floor):
        least = np.maximum(best, floor)
        return np.asarray(expected(mean, deviation, least) + (least - best) * _at_most(least - mean, deviation))
    gain = mean - best
    with np.errstate(divide="ignore", invalid="ignore"):
        z = gain / deviation
        smooth = gain * ndtr(z) + deviation * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return np.asarray(np.where(deviation > 0, np.maximum(smooth, 0.0), np.maximum(gain, 0.0)))


@dataclass(frozen=True)
class Staircase:
    """A front of two objectives: at known values up to `edges[i]`, rising, the other reaches `levels[i]`; then 0.

    Shapes: edges and levels (steps,).
    """

    edges: Array
    levels: Array

    @classmethod
    def of(cls, known: Array, value: Array) -> Staircase:
        """Build it from any points (points,), dominated ones and ones at or below the reference included."""
        order = np.lexsort((-value, -known))
        best = 0.0
        edges: list[float] = []
        levels: list[float] = []
        for at in order:
            if known[at] > 0 and value[at] > best:
                best = float(value[at])
                if edges and edges[-1] == known[at]:
                    levels[-1] = best
                else:
                    edges.append(float(known[at]))
                    levels.append(best)
        return cls(np.array(edges[::-1]), np.array(levels[::-1]))

    def at(self, t: Array) -> Array:
        """Return the height (...) at known values t (...), where the step that ends at t still counts."""
        padded = np.append(self.levels, 0.0)
        return padded[np.searchsorted(self.edges, t, side="left")]


@dataclass(frozen=True)
class Chains:
    """What candidates would measure, in order. Shapes: all (candidates, points).

    `mean` and `deviation` are of the unknown objective; `likely` is the probability of being feasible, 0 for what is
    measured already or pads a shorter chain.
    """

    known: Array
    mean: Array
    deviation: Array
    likely: Array


def over_staircase(chains: Chains, front: Staircase, floor: float = -math.inf) -> Array:
    """Return a lower bound of the expected gain in hypervolume after each measurement (candidates, points).

    `floor` is the least value of the unknown objective that is feasible.

    At each value t of the known objective the gain is that of the best of the points that reach t; its expectation is
    taken as the largest of their expectations. The bound is exact for one point, and for points that rise and fall
    together, as those of one chain nearly do; a sum over points would count their common gain once for each.
    """
    count, points = chains.known.shape
    fixed = np.broadcast_to(front.edges, (count, len(front.edges)))
    ends = np.sort(np.concatenate([fixed, np.clip(chains.known, 0.0, None)], axis=1), axis=1)
    widths = np.diff(ends, axis=1, prepend=0.0)
    best = front.at(ends)
    gains = np.zeros((count, ends.shape[1]))
    after = np.empty((count, points))
    for at in range(points):
        column = slice(at, at + 1)
        gain = expected(chains.mean[:, column], chains.deviation[:, column], best, floor) * chains.likely[:, column]
        gains = np.maximum(gains, np.where(ends <= chains.known[:, column], gain, 0.0))
        after[:, at] = (gains * widths).sum(axis=1)
    return after


def by_sampling(
    mean: Array,
    deviation: Array,
    violation_mean: Array,
    violation_deviation: Array,
    front: Array,
    draws: Array,
    floors: Array | float = -math.inf,
) -> float:
    """Return the mean gain in hypervolume of measuring several points, over joint draws, in any number of objectives.

    A draw moves all points of a chain together, each objective by itself; what it makes infeasible does not count.
    Shapes: `mean` and `deviation` (points, objectives), violations (points, constraints), `front` (n, objectives),
    `draws` (draws, objectives + constraints), standard normal; `floors` (objectives,), the least values that are
    feasible.
    """
    before = _volume(front)
    objectives = mean.shape[1]
    gained = 0.0
    for draw in draws:
        drawn = mean + deviation * draw[:objectives]
        fits = (violation_mean + violation_deviation * draw[objectives:] <= 0).all(axis=1)
        fits &= (drawn >= floors).all(axis=1)
        gained += _volume(np.concatenate([front, drawn[fits]])) - before if fits.any() else 0.0
    return gained / len(draws)


def _volume(points: Array) -> float:
    counted = points[(points > 0).all(axis=1)]
    return float(moocore.hypervolume(counted, ref=0, maximise=True)) if len(counted) else 0.0


def normal_draws(count: int, dimensions: int, seed: int) -> Array:
    """Return evenly spread standard normal draws (count, dimensions); `count` is a power of 2."""
    if dimensions == 0:
        return np.zeros((count, 0))
    shares = np.array(sobol_points(dimensions, count, seed))
    return np.asarray(ndtri(np.clip(shares, 1e-6, 1 - 1e-6)))


def feasible(violation: Array, deviation: Array) -> Array:
    """Return the probability that all of several independent normal violations (points, constraints) are at most 0."""
    return np.asarray(_at_most(violation, deviation).prod(axis=1))


def _at_most(violation: Array, deviation: Array) -> Array:
    """Return the probability that a normal violation is at most 0. All shapes are the same."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(deviation > 0, ndtr(-violation / deviation), violation <= 0)
