"""The bootstrap of a comparison: over examples, over the seeds of a network, and over the repeats of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.objectives import pareto
from search.results.compare.runs import ACCURACIES, Run
from trainables.metrics import ROBUST_ACCURACY

DRAWS = 1000
_SEED = 0
"""Equal studies give equal intervals, in every process."""


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def interval(value: float, draws: np.ndarray) -> Interval:
    """Return a value with the central 95 % of its resamples, in which the value itself always lies."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(value, min(float(low), value), max(float(high), value))


class Resamples:
    """Resampled accuracies of every run's networks.

    All networks that were measured on the same examples get the same draws of them: differences are paired. So do the
    networks of a run that have equally many seeds: what a seed has trained well may be well trained at all sparsities.
    """

    def __init__(self, runs: Sequence[Run], draws: int = DRAWS) -> None:
        """Draw the examples of all runs. Shape of `accuracies[run]`: (points, 2, draws)."""
        self.draws = draws
        weights = {size: _example_weights(size, draws) for size in {run.examples for run in runs if run.networks}}
        random = np.random.default_rng(_SEED)
        self.accuracies = [
            _resampled([network.verdicts for network in run.networks], weights[run.examples], random)
            if run.networks
            else np.zeros((0, len(ACCURACIES), draws))
            for run in runs
        ]

    def hypervolumes(self, run: Run, at: int) -> np.ndarray:
        """Return the hypervolume of a run's front in every resample; its points are the same in all."""
        values = np.repeat(run.values[:, :, None], self.draws, axis=2)
        for column, measure in enumerate(run.measures):
            if measure in ACCURACIES:
                values[:, column] = self.accuracies[at][:, ACCURACIES.index(measure)]
        return np.array([pareto.hypervolume(values[:, :, draw]) for draw in range(self.draws)])

    def robust(self, at: int) -> np.ndarray:
        """Return the robust accuracies of a run's networks, shape (points, draws)."""
        return self.accuracies[at][:, ACCURACIES.index(ROBUST_ACCURACY)]

    def mean_of_repeats(self, resamples: np.ndarray, label: str) -> np.ndarray:
        """Average over repeats, shape (repeats, ..., draws), of which as many are drawn with replacement.

        The repeats that are drawn depend on the label alone: all numbers of a group have the same.
        """
        repeats = len(resamples)
        if repeats == 1:
            return np.asarray(resamples[0])
        random = np.random.default_rng([_SEED, *label.encode()])
        times = np.stack(
            [np.bincount(row, minlength=repeats) for row in random.integers(repeats, size=(self.draws, repeats))]
        )
        shares = (times / repeats).T.reshape(repeats, *[1] * (resamples.ndim - 2), self.draws)
        return np.asarray((resamples * shares).sum(axis=0))


def _example_weights(examples: int, draws: int) -> np.ndarray:
    """Return how often each example is drawn, as a share, shape (examples, draws) float32."""
    random = np.random.default_rng([_SEED, examples])
    drawn = [np.bincount(random.integers(examples, size=examples), minlength=examples) for _ in range(draws)]
    return (np.stack(drawn, axis=1) / examples).astype(np.float32)


def _resampled(verdicts: Sequence[np.ndarray], weights: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return resampled accuracies, shape (networks, kinds, draws), of verdicts (seeds, kinds, examples) each."""
    rows = np.concatenate([each.reshape(-1, len(weights)) for each in verdicts]).astype(np.float32)
    ends = np.cumsum([each.shape[0] * each.shape[1] for each in verdicts])[:-1]
    found = np.split((rows @ weights).astype(np.float64), ends)
    shapes = [(*each.shape[:2], weights.shape[1]) for each in verdicts]
    several = sorted({seeds for seeds, *_ in shapes})
    chosen = {seeds: random.integers(seeds, size=(seeds, 1, weights.shape[1])) for seeds in several}
    return np.stack(
        [_over_seeds(flat.reshape(shape), chosen[shape[0]]) for flat, shape in zip(found, shapes, strict=True)]
    )


def _over_seeds(found: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Average accuracies (seeds, kinds, draws) over the seeds that are drawn, (seeds, 1, draws)."""
    return np.asarray(np.take_along_axis(found, chosen, axis=0).mean(axis=0))
