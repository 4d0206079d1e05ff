"""What fronts attain at each sparsity, and which attains more within ranges of sparsity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from search.results.compare.resamples import Interval, Resamples, interval
from search.results.compare.runs import Run
from search.results.verdicts import quantiles

BOUNDS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0)
"""The ranges of sparsity that are reported."""
_DENSEST = 1e-6
"""Of the density, where its logarithm is taken."""


@dataclass(frozen=True)
class Range:
    """Which of two searches attains more robust accuracy from the sparsity `low` to `high`, as far as both reach.

    Accuracies are means over the range, by the logarithm of the density. `ahead` is the one whose advantage can be told
    from 0, or the only one that reaches the range: `difference` (first minus second) is then None. It is None where the
    two cannot be told apart.
    """

    low: float
    high: float
    one: float | None
    other: float | None
    difference: Interval | None
    ahead: str | None


class Steps:
    """What the runs of a comparison attain, on a grid of all sparsities at which one of them has a point.

    At a sparsity, a front attains the best robust accuracy among its points of at least that sparsity. Between two
    neighbours of `grid` nothing changes. `chosen[run][cell]` is the point that gives it, -1 where there is none.
    """

    def __init__(self, runs: Sequence[Run], resamples: Resamples) -> None:
        """Lay the grid, with the bounds of the ranges in it."""
        self.runs = runs
        self.resamples = resamples
        places = {network.sparsity for run in runs for network in run.networks}
        self.grid = np.array(sorted(places | set(BOUNDS)))
        self.chosen = [_chosen(run, self.grid[1:]) for run in runs]
        across = np.array([depth(sparsity) for sparsity in self.grid])
        self.widths = np.diff(across)

    def attained(self, at: int) -> np.ndarray:
        """Return what a run attains in each cell, NaN where it has no point that sparse; shape (cells,)."""
        found = np.array([network.robust_accuracy for network in self.runs[at].networks] or [math.nan])
        return np.where(self.chosen[at] >= 0, found[self.chosen[at]], math.nan)

    def resampled(self, at: int) -> np.ndarray:
        """Return the same in every resample, shape (cells, draws)."""
        robust = self.resamples.robust(at)
        if not len(robust):
            return np.full((len(self.widths), self.resamples.draws), math.nan)
        return np.where(self.chosen[at][:, None] >= 0, robust[self.chosen[at]], math.nan)


@dataclass(frozen=True)
class Attained:
    """What a group attains in each cell of the grid, the mean over its runs: NaN where one has no point that sparse.

    Shapes: `value` (cells,), `draws` (cells, draws). `samples` are the numbers of runs, and of seeds of their networks,
    that are drawn: those above 1.
    """

    label: str
    value: np.ndarray
    draws: np.ndarray
    samples: frozenset[int]


def attained(steps: Steps, label: str, runs: Sequence[int]) -> Attained:
    """Return what the runs of a group attain together."""
    values = np.stack([steps.attained(at) for at in runs])
    draws = np.stack([steps.resampled(at) for at in runs])
    seeds = {len(network.verdicts) for at in runs for network in steps.runs[at].networks}
    samples = frozenset({len(runs), *seeds} - {1})
    return Attained(label, values.mean(axis=0), steps.resamples.mean_of_repeats(draws, label), samples)


def ranges(steps: Steps, one: Attained, other: Attained) -> list[Range]:
    """Compare two groups in each range of sparsity that one of them reaches.

    Who is ahead is told with a correction for the number of ranges (Bonferroni), and by Student's t for the fewest runs
    or seeds, of which the bootstrap alone makes too little.
    """
    found = [each for low, high in pairwise(BOUNDS) if (each := _range(steps, one, other, low, high)) is not None]
    told = sum(spread is not None for _, spread in found)
    return [
        each if spread is None else replace(each, ahead=_ahead(each, spread, one, other, told))
        for each, spread in found
    ]


def _ahead(found: Range, spread: float, one: Attained, other: Attained, among: int) -> str | None:
    """Return which of two groups attains more, given the standard deviation of the resampled differences."""
    assert found.difference is not None
    fewest = min(one.samples | other.samples, default=None)
    if fewest is None:
        reach = quantiles(among, 2)[1] * spread
    else:
        reach = quantiles(among, fewest)[0] * spread * math.sqrt(fewest / (fewest - 1))
    if abs(found.difference.value) <= reach:
        return None
    return (one if found.difference.value > 0 else other).label


def _range(steps: Steps, one: Attained, other: Attained, low: float, high: float) -> tuple[Range, float | None] | None:
    """Return a range, where both reach it with the standard deviation of the difference."""
    inside = (steps.grid[:-1] >= low) & (steps.grid[1:] <= high)
    mine, theirs = (inside & ~np.isnan(each.value) for each in (one, other))
    both = mine & theirs
    if not both.any():
        alone = _alone(steps, one, other, mine, theirs)
        return (alone, None) if alone else None
    shares = steps.widths[both] / steps.widths[both].sum()
    means = [float(shares @ each.value[both]) for each in (one, other)]
    draws = shares @ (one.draws[both] - other.draws[both])
    difference = interval(means[0] - means[1], draws)
    return Range(*_ends(steps, both), means[0], means[1], difference, None), float(draws.std(ddof=1))


def _alone(steps: Steps, one: Attained, other: Attained, mine: np.ndarray, theirs: np.ndarray) -> Range | None:
    """Return a range that only one of two groups reaches."""
    for group, reached in ((one, mine), (other, theirs)):
        if reached.any():
            shares = steps.widths[reached] / steps.widths[reached].sum()
            mean = float(shares @ group.value[reached])
            first, second = (mean, None) if group is one else (None, mean)
            return Range(*_ends(steps, reached), first, second, None, group.label)
    return None


def _ends(steps: Steps, cells: np.ndarray) -> tuple[float, float]:
    at = np.flatnonzero(cells)
    return float(steps.grid[at[0]]), float(steps.grid[at[-1] + 1])


def depth(sparsity: float) -> float:
    """Return where a sparsity lies on an axis that is logarithmic in the density."""
    return -math.log10(max(1 - sparsity, _DENSEST))


def _chosen(run: Run, sparsities: np.ndarray) -> np.ndarray:
    """Return for each sparsity which network attains most there; -1 where none is that sparse."""
    found = []
    for sparsity in sparsities:
        able = [index for index, network in enumerate(run.networks) if network.sparsity >= sparsity]
        found.append(max(able, key=lambda index: run.networks[index].robust_accuracy, default=-1))
    return np.array(found, dtype=int)
