"""How sure a front is: the bootstrap over examples, the same for all points, and over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


Judge = Callable[[np.ndarray, np.ndarray], Sequence[float] | None]
"""Objective values, each better when larger, of accuracies (kinds,) and other numbers; None where infeasible."""


def p_nondominated(samples: Sequence[Sample], judge: Judge, draws: int = DRAWS) -> list[float]:
    """Return for each point the share of resamples in which it is on the front.

    Every resample draws the examples with replacement, the same for all points, as they were measured on the same ones,
    and for each point as many seeds as it has. Source: Efron 1979, doi:10.1214/aos/1176344552.
    """
    if not samples:
        return []
    counts = np.zeros(len(samples))
    for accuracies, others in _resamples(samples, draws):
        values = [judge(mine, own) for mine, own in zip(accuracies, others, strict=True)]
        counts += pareto.front(values)
    return [float(count) / draws for count in counts]


def _resamples(samples: Sequence[Sample], draws: int) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    random = np.random.default_rng(_SEED)
    examples = samples[0].verdicts.shape[2]
    assert all(sample.verdicts.shape[2] == examples for sample in samples), "points of different examples"
    stacked = np.concatenate([s.verdicts.reshape(-1, examples) for s in samples]).astype(np.float32)
    ends = np.cumsum([s.verdicts.shape[0] * s.verdicts.shape[1] for s in samples])[:-1]
    for _ in range(draws):
        weights = np.bincount(random.integers(examples, size=examples), minlength=examples).astype(np.float32)
        found = np.split((stacked @ weights).astype(np.float64) / examples, ends)
        accuracies, others = [], []
        for sample, flat in zip(samples, found, strict=True):
            seeds, kinds, _ = sample.verdicts.shape
            chosen = random.integers(seeds, size=seeds)
            accuracies.append(flat.reshape(seeds, kinds)[chosen].mean(axis=0))
            others.append(sample.others[chosen].mean(axis=0))
        yield accuracies, others
