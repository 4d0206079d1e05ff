"""Observations as arrays, and which of many are worth keeping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from search.objectives import pareto
from search.objectives.problem import SearchProblem
from search.samplers.observations import Observation, ObservationStore
from search.space.parameters import Params, identity
from trainables.core.rng import derive

Array = np.ndarray


@dataclass(frozen=True)
class ObservedPoints:
    """Points with values, in the order in which they were learned, and parameters of trials without.

    `params` are those of the points, of which the first `transferred` are of other studies. `running` are trials
    whose results are to come, `stopped` those that were stopped before they had all, `failed` those that gave none.

    Shapes: values (points, objectives), violations (points, bounds); last (stopped, objectives), what stopped trials
    measured at last, NaN where that is not known.
    """

    params: list[Params]
    values: Array
    violations: Array
    running: list[Params]
    failed: list[Params]
    stopped: list[Params]
    last: Array
    transferred: int = 0

    @classmethod
    def of(cls, observations: Iterable[Observation], problem: SearchProblem) -> ObservedPoints:
        """Read observations; transferred ones come before the first trial."""
        by_state: dict[str, list[Observation]] = {"complete": [], "stopped": [], "running": [], "failed": []}
        for observation in observations:
            by_state[observation.state].append(observation)
        complete = sorted(by_state["complete"], key=lambda row: row.order or 0)
        values = np.array([row.values for row in complete], dtype=float)
        violations = np.array([row.violations for row in complete], dtype=float)
        unknown = (math.nan,) * len(problem.objectives)
        last = np.array([row.values or unknown for row in by_state["stopped"]], dtype=float)
        return cls(
            params=[row.params for row in complete],
            values=values.reshape(len(complete), len(problem.objectives)),
            violations=violations.reshape(len(complete), len(problem.bounds())),
            running=[row.params for row in by_state["running"]],
            failed=[row.params for row in by_state["failed"]],
            stopped=[row.params for row in by_state["stopped"]],
            last=last.reshape(len(by_state["stopped"]), len(problem.objectives)),
            transferred=sum(row.origin == "transferred" for row in complete),
        )

    @cached_property
    def names(self) -> list[tuple[object, ...]]:
        """The identity of each point: equal ones are one network."""
        return [identity(params) for params in self.params]

    @property
    def feasible(self) -> Array:
        """Whether each point meets all constraints (points,)."""
        return np.asarray((self.violations <= 0).all(axis=1))

    @property
    def excess(self) -> Array:
        """By how much each point violates its bounds, all together (points,)."""
        return np.asarray(np.clip(self.violations, 0, None).sum(axis=1))

    def part(self, rows: Array) -> ObservedPoints:
        """Return some of the points, by their indices in rising order."""
        transferred = int((rows < self.transferred).sum())
        return replace(
            self,
            params=[self.params[at] for at in rows],
            values=self.values[rows],
            violations=self.violations[rows],
            transferred=transferred,
        )


def worth_keeping(points: ObservedPoints, most: int, recent: int, draw: np.random.Generator) -> Array:
    """Return the indices of at most `most` points: the front, the `recent` newest, those nearest to it, some others.

    Where no point is feasible, the nearest are those that violate least. Of points with equal parameters the newest
    stays: they are one network, which several trials have in common.
    """
    last = {named: at for at, named in enumerate(points.names)}
    rows = np.array(sorted(last.values()), dtype=int)
    if len(rows) > most:
        feasible = points.feasible[rows]
        values = np.where(feasible[:, None], points.values[rows], 0.0)
        on_front = np.array(pareto.nondominated(values), dtype=bool) & feasible
        far = _shortfall(values, values[on_front]) if feasible.any() else points.excess[rows]
        near = np.argsort(far, kind="stable")
        orders = (np.flatnonzero(on_front)[::-1][: most // 2], np.arange(len(rows))[::-1][:recent], near[: most // 2])
        chosen: dict[int, None] = {}
        for order in (*orders, draw.permutation(len(rows))):
            chosen.update(dict.fromkeys(order.tolist()))
        rows = rows[np.sort(list(chosen)[:most])]
    return rows


def _shortfall(values: Array, front: Array) -> Array:
    """Return by how much each point would have to gain in every objective to reach the front, or a sample of it.

    Shapes: values (points, objectives), front (M, objectives), M > 0; returns (points,).
    """
    front = front[:: 1 + len(front) // 64]
    return np.asarray((front[None] - values[:, None]).min(axis=2).max(axis=1))


def forget(observations: ObservationStore, most: int, problem: SearchProblem, seed: int) -> ObservationStore:
    """Return a smaller store where there are twice as many points as `most`: the better half, and what still runs."""
    if observations.complete < 2 * most:
        return observations
    learned = observations.learned()
    draw = np.random.default_rng(derive(seed, "forget", len(observations)))
    rows = worth_keeping(ObservedPoints.of(learned, problem), most, most // 4, draw)
    unsuccessful = [row for row in observations if row.state in ("failed", "stopped")][-most // 4 :]
    kept = {id(row) for row in (*(learned[at] for at in rows), *unsuccessful)}
    return ObservationStore(row for row in observations if id(row) in kept or row.state == "running")
