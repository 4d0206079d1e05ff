"""How sure a front is: the bootstrap over examples, the same for all points, and over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from search.objectives import pareto

DRAWS = 1000
_SEED = 0
"""Equal results give equal probabilities, in every process."""


@dataclass(frozen=True)
class Sample:
    """One network, or several of different seeds, as it was measured.

    Shapes: `verdicts` (seeds, kinds, examples) bool, for every kind of accuracy the same examples in their order;
    `others` (seeds, numbers) float64: what does not depend on examples.
    """

    verdicts: np.ndarray
    others: np.ndarray


Judge = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""Objective values (draws, objectives) of a point, each better when larger, NaN where it is infeasible.

Given are its number, its accuracies (draws, kinds) and its other numbers (draws, numbers).
"""


def p_nondominated(samples: Sequence[Sample], judge: Judge, draws: int = DRAWS) -> list[float]:
    """Return for each point the share of resamples in which it is on the front.

    Every resample draws the examples with replacement, the same for all points, as they were measured on the same ones,
    and as many seeds as a point has, the same for all points that have equally many: several may be of one training.
    Source: Efron 1979, doi:10.1214/aos/1176344552.
    """
    if not samples:
        return []
    found = _resampled(samples, draws)
    values = np.stack([judge(at, *resampled) for at, resampled in enumerate(found)], axis=1)
    counts = np.zeros(len(samples))
    for draw in values:
        feasible = np.isfinite(draw).all(axis=1)
        counts[feasible] += pareto.nondominated(draw[feasible])
    return [float(count) / draws for count in counts]


def _resampled(samples: Sequence[Sample], draws: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each point its accuracies (draws, kinds) and other numbers (draws, numbers)."""
    random = np.random.default_rng(_SEED)
    examples = samples[0].verdicts.shape[2]
    assert all(sample.verdicts.shape[2] == examples for sample in samples), "points of different examples"
    stacked = np.concatenate([s.verdicts.reshape(-1, examples) for s in samples]).astype(np.float32)
    drawn = np.empty((draws, len(stacked)))
    for draw in range(draws):
        weights = np.bincount(random.integers(examples, size=examples), minlength=examples)
        drawn[draw] = stacked @ weights.astype(np.float32)
    ends = np.cumsum([s.verdicts.shape[0] * s.verdicts.shape[1] for s in samples])[:-1]
    several = sorted({len(sample.verdicts) for sample in samples})
    chosen = {seeds: random.integers(seeds, size=(draws, seeds)) for seeds in several}
    found = []
    for sample, flat in zip(samples, np.split(drawn / examples, ends, axis=1), strict=True):
        seeds, kinds, _ = sample.verdicts.shape
        of_all = flat.reshape(draws, seeds, kinds)
        accuracies = np.take_along_axis(of_all, chosen[seeds][:, :, None], axis=1).mean(axis=1)
        found.append((accuracies, sample.others[chosen[seeds]].mean(axis=1)))
    return found


def unpacked(text: str, examples: int) -> np.ndarray:
    """Return verdicts that are stored as hex. Shapes: (examples,) bool."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8), count=examples).astype(np.bool_)


def unpacked_passes(text: str, examples: int) -> np.ndarray:
    """Return the share of passes in which each example is correct, of outcomes stored as hex. Shapes: (examples,).

    Raises:
        ValueError: with so few examples the bits do not tell how many passes there were.
    """
    if examples < 8:  # Up to seven bits fill the last byte.
        raise ValueError(f"{examples} examples; at least 8 are needed")
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8))
    passes = len(bits) // examples
    return np.asarray(bits[: passes * examples].reshape(passes, examples).mean(axis=0))
