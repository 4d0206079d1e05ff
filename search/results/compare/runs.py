"""The front of each study as arrays: objective values, and for every example whether each network stands."""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search import objectives
from search.objectives import pareto
from search.results.bootstrap import unpacked
from search.results.compare.groups import name_of
from search.results.confirmed import ConfirmedRow
from search.results.study import Study
from search.results.table import PointRow
from search.study.spec import StudySpec
from trainables.metrics import CLEAN_ACCURACY, ROBUST_ACCURACY, SPARSITY
from trainables.store.records import Point

ACCURACIES = (ROBUST_ACCURACY, CLEAN_ACCURACY)
_SIZES = ("nonzero", "prunable", "macs_dense", "macs_effective")


@dataclass(frozen=True)
class Network:
    """A point that is compared. `verdicts`, shape (seeds, 2, examples) bool: robust, then correct on clean images."""

    point: str
    measures: dict[str, Any]
    verdicts: np.ndarray

    @property
    def sparsity(self) -> float:
        return float(self.measures[SPARSITY])

    @property
    def flagged(self) -> bool:
        """Whether a check says that its robustness looks wrong."""
        return str(self.measures["status"]) != "ok"

    @property
    def robust_accuracy(self) -> float:
        return float(self.measures[ROBUST_ACCURACY])


@dataclass(frozen=True)
class Run:
    """One study's front, from dense to sparse. `values`, shape (points, objectives), are better when larger."""

    study: str
    networks: tuple[Network, ...]
    values: np.ndarray
    measures: tuple[str, ...]

    @property
    def examples(self) -> int:
        """How many examples each network was measured on; 0 without a network."""
        return self.networks[0].verdicts.shape[2] if self.networks else 0

    def hypervolume(self) -> float:
        """Return the share of the objective space that the front dominates."""
        return pareto.hypervolume(self.values)


def runs_of(studies: Sequence[Study], *, confirmed: bool) -> list[Run]:
    """Return the fronts of comparable studies; on them are only points that meet the constraints of all."""
    goals = [study.spec for study in studies]
    return [_run(study, goals, confirmed) for study in studies]


def _run(study: Study, goals: Sequence[StudySpec], confirmed: bool) -> Run:
    rows = study.confirmed() if confirmed else study.settled()
    described = [(row, _measures(row)) for row in rows]
    chosen = [(row, measures) for row, measures in described if _counts(row, measures, study.spec, goals)]
    # The order of the objectives is that of the first study, so that all values mean the same.
    values = [objectives.values(measures, goals[0]) for _, measures in chosen]
    best = [pair for pair, on_front in zip(chosen, pareto.front(values), strict=True) if on_front]
    best.sort(key=lambda pair: (pair[1][SPARSITY], pair[0].trial, pair[0].point))
    networks = tuple(Network(row.point, measures, _verdicts(row)) for row, measures in best)
    shares = [objectives.values(network.measures, goals[0]) for network in networks]
    return Run(
        name_of(study),
        networks,
        np.array(shares, dtype=np.float64).reshape(len(networks), len(goals[0].objectives)),
        tuple(goals[0].objectives),
    )


def _counts(row: PointRow | ConfirmedRow, measures: dict[str, Any], own: StudySpec, goals: Sequence[StudySpec]) -> bool:
    complete = not isinstance(row, ConfirmedRow) or row.complete
    return complete and objectives.valid(measures, own) and all(objectives.feasible(measures, each) for each in goals)


def _measures(row: PointRow | ConfirmedRow) -> dict[str, Any]:
    """Return what objectives and constraints read; for a confirmed point, means over its seeds."""
    found: dict[str, Any] = {name: getattr(row, name) for name in (*ACCURACIES, SPARSITY, *_SIZES, "status")}
    if isinstance(row, ConfirmedRow):
        found[ROBUST_ACCURACY], found[CLEAN_ACCURACY] = row.robust_accuracy_mean, row.clean_accuracy_mean
        found[SPARSITY] = statistics.fmean(each.sparsity for each in row.replicates)
        return found
    if row.configuration is not None:
        return {name: getattr(row.judged, name) for name in (*found, "tier")}
    return {**found, "tier": row.tier}


def _verdicts(row: PointRow | ConfirmedRow) -> np.ndarray:
    if isinstance(row, ConfirmedRow):
        texts = [(each.verdicts, each.clean_verdicts) for each in row.replicates]
        return np.array([[unpacked(text, row.examples) for text in both] for both in texts])
    return np.array([_of_search(point) for point in row.replicates])


def _of_search(point: Point) -> list[np.ndarray]:
    """Return the robust and the clean verdicts of a point of a search."""
    random = np.random.default_rng(zlib.crc32(point.weights_sha256.encode()))
    robust = unpacked(point.verdicts, point.examples)
    if int(robust.sum()) != point.robust_correct:  # Records of before verdicts were kept have none.
        robust = _some_of(np.ones(point.examples, dtype=bool), point.robust_correct, random)
    if (text := point.outcomes.get(CLEAN_ACCURACY)) is not None:
        return [robust, unpacked(text, point.examples)]
    # Older records have robust verdicts alone; which of the other examples are correct clean is drawn.
    return [robust, robust | _some_of(~robust, point.clean_correct - point.robust_correct, random)]


def _some_of(allowed: np.ndarray, number: int, random: np.random.Generator) -> np.ndarray:
    """Return a number of the allowed examples, drawn at random."""
    found = np.zeros_like(allowed)
    where = np.flatnonzero(allowed)
    found[random.choice(where, size=min(max(number, 0), len(where)), replace=False)] = True
    return found
