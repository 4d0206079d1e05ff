"""The front: which points no other dominates, and their hypervolume. Pure functions of numbers.

All functions take objective values in the normalised form of `search.objectives.values`: every objective maximised, 0
the fixed reference, so that two searches of one study compare. Shapes: values (points, objectives).
"""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np

from search.objectives.dominance import covers, dominates

__all__ = [
    "Archive",
    "contributions",
    "covers",
    "dominates",
    "front",
    "hypervolume",
    "knee",
    "layers",
    "nondominated",
]

Values = Sequence[Sequence[float]] | np.ndarray


def _array(values: Values) -> np.ndarray:
    """Return (points, objectives) float64."""
    points = np.asarray(values, dtype=np.float64)
    assert points.ndim == 2, f"objective values of shape {points.shape} are not a table of points"
    assert bool(np.isfinite(points).all()), "only finite points can be compared"
    return points


def nondominated(values: Values) -> list[bool]:
    """Return for each point whether no other dominates it.

    Equal points do not dominate each other: all duplicates of a point on the front are on it.
    """
    if not len(values):
        return []
    points = _array(values)
    if points.shape[1] == 1:
        return [bool(on_front) for on_front in points[:, 0] == points[:, 0].max()]
    return [bool(on_front) for on_front in moocore.is_nondominated(points, maximise=True, keep_weakly=True)]


def layers(values: Values) -> list[int]:
    """Return each point's layer: 0 for the non-dominated ones, 1 for those that only layer 0 dominates, and so on."""
    if not len(values):
        return []
    points = _array(values)
    if points.shape[1] == 1:
        return [int(rank) for rank in np.unique(-points[:, 0], return_inverse=True)[1]]
    return [int(rank) for rank in moocore.pareto_rank(points, maximise=True)]


class Archive:
    """The front of points that are added one by one, each under a name; adding a name again changes nothing."""

    def __init__(self) -> None:
        """Start empty."""
        self.front: dict[str, list[float]] = {}
        self._seen: set[str] = set()
        self._hypervolume: float | None = 0.0

    def add(self, name: str, values: Sequence[float]) -> bool:
        """Add a point and return whether it is on the front now."""
        if name in self._seen:
            return name in self.front
        self._seen.add(name)
        mine = list(values)
        if any(dominates(other, mine) for other in self.front.values()):
            return False
        self.front = {key: other for key, other in self.front.items() if not dominates(mine, other)}
        self.front[name] = mine
        self._hypervolume = None
        return True

    def hypervolume(self) -> float:
        """Return the hypervolume of the front."""
        if self._hypervolume is None:
            self._hypervolume = hypervolume(list(self.front.values()))
        return self._hypervolume


def hypervolume(values: Values) -> float:
    """Return the volume that the points dominate above 0; points below 0 count as on the boundary."""
    if not len(values):
        return 0.0
    points = np.clip(_array(values), 0.0, None)
    if points.shape[1] == 1:
        return float(points.max())
    return float(moocore.hypervolume(points, ref=0, maximise=True))


def contributions(values: Values) -> list[float]:
    """Return what each point alone adds to the hypervolume; 0 for dominated points and for duplicates."""
    if not len(values):
        return []
    points = np.clip(_array(values), 0.0, None)
    if points.shape[1] == 1:
        column = np.sort(points[:, 0])
        runner_up = float(column[-2]) if len(column) > 1 else 0.0
        return [max(0.0, float(value) - runner_up) for value in points[:, 0]]
    return [float(share) for share in moocore.hv_contributions(points, ref=0, maximise=True)]


def knee(values: Values) -> int | None:
    """Return which point of a front bulges farthest beyond the plane through the best of each objective.

    Each objective is scaled to [0, 1] over the front. None where no point lies beyond the plane: with
    one objective, fewer than three points, or a front that is straight or hollow.
    Source: Das 1999, doi:10.1007/BF01195985 (the point farthest from the plane of the individual optima).
    """
    if len(values) < 3:
        return None
    points = _array(values)
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    # Scaled, the best of each objective lie at the unit vectors, or beyond.
    bulge = scaled.sum(axis=1) - 1.0
    best = int(bulge.argmax())
    return best if points.shape[1] > 1 and bulge[best] > 1e-9 else None


def front(values: Sequence[Sequence[float] | None]) -> list[bool]:
    """Return for each point whether it is on the front; None and non-finite points are not, and dominate none."""
    comparable = [i for i, point in enumerate(values) if point is not None and np.isfinite(point).all()]
    verdicts = nondominated([list(values[i] or ()) for i in comparable])
    on_front = [False] * len(values)
    for index, verdict in zip(comparable, verdicts, strict=True):
        on_front[index] = verdict
    return on_front
