"""Asynchronous successive halving on several objectives: rungs, and the rank of a trial on one.

The trials on a rung are ranked by layers of non-dominated rows. Within a layer, which has no order of its own, a
ranking decides: a function from the values of the layer (normalised, maximised) to the indices of its rows, best first.
Equal rows stay in order of arrival. Source: Schmucker et al. 2021, arXiv:2106.12639.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from search.early_stopping.base import Measurement, StoppingRule, aimed
from search.objectives import pareto

Ranking = Callable[[pareto.Values], list[int]]


def by_spread(layer: pareto.Values) -> list[int]:
    """Rank a layer so that any first rows of it lie far apart: a greedy epsilon-net.

    The best in the first objective leads; each next one is the furthest from all that were taken.

    Shapes: layer (rows, objectives). Source: arXiv:2106.12639.
    """
    points = np.asarray(layer, dtype=np.float64)
    order = [int(points[:, 0].argmax())]
    distance = np.linalg.norm(points - points[order[0]], axis=1)
    for _ in layer[1:]:
        distance[order[-1]] = -np.inf
        order.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[order[-1]], axis=1))
    return order


def by_contribution(layer: pareto.Values) -> list[int]:
    """Rank a layer (rows, objectives) by what each row alone adds to its hypervolume."""
    shares = pareto.contributions(layer)
    return sorted(range(len(layer)), key=lambda index: (-shares[index], index))


RANKINGS: dict[str, Ranking] = {"nondominated": by_spread, "hypervolume": by_contribution}


def survives(values: pareto.Values, ranking: Ranking, eta: float) -> bool:
    """Return whether the last of the rows (trials, objectives) of a rung is among the trials that continue."""
    keep = survivors(len(values), eta)
    ranks = pareto.layers(values)
    better = sum(rank < ranks[-1] for rank in ranks)
    layer = [row for row, rank in zip(values, ranks, strict=True) if rank == ranks[-1]]
    if better + len(layer) <= keep or better >= keep:
        return better < keep
    return better + ranking(layer).index(len(layer) - 1) < keep


def survivors(entries: int, eta: float) -> int:
    """Return how many of the entries of a rung continue: one in `eta`, and at least one."""
    return max(1, math.floor(entries / eta + 1e-9))


class MoashaRule(StoppingRule):
    """Rungs at certain epochs; at each a trial continues if it is among the best of those that reached it so far."""

    def __init__(
        self, objectives: Sequence[str], levels: Sequence[int], eta: float, ranking: Ranking, live: bool = True
    ) -> None:
        """Start with empty rungs at `levels` epochs."""
        super().__init__(objectives, live)
        self._eta = eta
        self._ranking = ranking
        self._rungs: dict[int, dict[int, tuple[float, ...]]] = {level: {} for level in sorted(levels)}

    def state(self) -> dict[str, Any]:
        """Return the rungs beside the state that every rule has."""
        rungs = {str(level): [[n, list(values)] for n, values in rung.items()] for level, rung in self._rungs.items()}
        return {**super().state(), "rungs": rungs}

    def _hopeless(self, number: int, measurement: Measurement) -> bool:
        level = self._level(measurement)
        if level is None or any(earlier.resource >= level for earlier in self.measurements.get(number, ())):
            return False
        rung = self._rungs[level]
        entries = [*rung.values(), aimed(measurement, self.objectives)]
        return not survives(entries, self._ranking, self._eta)

    def _publish(self, number: int, measurement: Measurement) -> None:
        if (level := self._level(measurement)) is not None:
            self._rungs[level].setdefault(number, aimed(measurement, self.objectives))

    def _withdraw(self, number: int) -> None:
        for rung in self._rungs.values():
            rung.pop(number, None)

    def _level(self, measurement: Measurement) -> int | None:
        """Return the highest rung that a measurement reaches; rungs that it skipped have no entry of it."""
        return max((level for level in self._rungs if level <= measurement.resource), default=None)
