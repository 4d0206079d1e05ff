"""Which points are worth confirming: the front, and those that chance in the examples may have kept from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from search import objectives
from search.objectives import pareto
from search.results.bootstrap import Sample, p_nondominated, unpacked
from search.results.table import PointRow, Trials, point_rows
from search.study.spec import StudySpec
from trainables.core.plugins import loaded
from trainables.method.phases import Measure, Prune, Snapshot, Threshold
from trainables.metrics import ROBUST_ACCURACY
from trainables.recipes.trial import TrialSpec
from trainables.store.records import Point, TrialRecord

LEAST = 0.05
"""A point reaches the front if it is on it in at least this share of the resamples of the examples."""


def near(spec: StudySpec, points: Iterable[PointRow]) -> list[PointRow]:
    """Return the points of the front and those whose interval reaches it, each network once, from dense to sparse.

    All points are measured on the same examples, so these are resampled for all at once: two networks that are right
    and wrong on the same examples are told apart where intervals of their accuracies alone would overlap. Points
    without verdicts have but their Wilson interval.
    """
    networks: dict[str, PointRow] = {}
    for row in points:
        if objectives.valid(row.measured, spec) and (row.feasible or row.on_front):
            networks.setdefault(row.weights_sha256, row)
    rows = list(networks.values())
    chosen = _paired(spec, rows) if _comparable(rows) else _overlapping(spec, rows)
    found = [row for row, reaches in zip(rows, chosen, strict=True) if reaches or row.on_front]
    return sorted(found, key=lambda row: (row.sparsity, row.trial, row.measured.measure))


def _comparable(rows: Sequence[PointRow]) -> bool:
    return all(row.measured.verdicts for row in rows) and len({row.examples for row in rows}) <= 1


def _paired(spec: StudySpec, rows: Sequence[PointRow]) -> list[bool]:
    fixed = [objectives.values(row.measured, spec) for row in rows]

    def judge(at: int, accuracies: np.ndarray, others: np.ndarray) -> np.ndarray:
        values = np.tile(fixed[at], (len(accuracies), 1))
        for column in (column for column, measure in enumerate(spec.objectives) if measure == ROBUST_ACCURACY):
            values[:, column] = accuracies[:, 0]
        return values

    nothing = np.zeros((1, 0))
    samples = [Sample(unpacked(row.measured.verdicts, row.examples)[None, None], nothing) for row in rows]
    return [share >= LEAST for share in p_nondominated(samples, judge)]


def _overlapping(spec: StudySpec, rows: Sequence[PointRow]) -> list[bool]:
    front = [objectives.values(row.measured, spec) for row in rows if row.on_front]
    best = [{**_numbers(row.measured), "robust_accuracy": row.robust_accuracy_high} for row in rows]
    values = [objectives.values(point, spec) for point in best]
    return [not any(pareto.dominates(other, mine) for other in front) for mine in values]


def _numbers(point: Point) -> dict[str, object]:
    return {
        name: getattr(point, name) for name in Point.model_fields if name not in ("verdicts", "outcomes", "metrics")
    }


def dense_stage(trial: TrialRecord, stage: str) -> str | None:
    """Return the key of the dense parent of a trial's network: the state before the first pruning.

    None where nothing was pruned before it, and where only a plug-in that is not imported knows.
    """
    if not loaded(tuple(trial.spec.get("plugins", ()))):
        return None
    state = trial.keys[0]
    for phase, key in zip(TrialSpec.model_validate(trial.spec).phases(), trial.keys[1:], strict=True):
        if state == stage:
            return None
        if isinstance(phase, (Prune, Threshold)):
            return state
        state = state if isinstance(phase, (Measure, Snapshot)) else key
    return None


def needed_stages(spec: StudySpec, trials: Trials) -> set[str]:
    """Return the keys of the stages that `robustsearch gc` keeps: networks worth confirming, their dense parents."""
    rows = point_rows(spec, trials)
    kept = {row.point: row for row in (*near(spec, rows), *(row for row in rows if row.on_front))}
    issued = {trial.number: trial for trial, _ in trials}
    dense = {dense_stage(issued[row.trial], row.measured.stage) for row in kept.values()}
    return {row.measured.stage for row in kept.values()} | {stage for stage in dense if stage is not None}
