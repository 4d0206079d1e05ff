"""The tables of a study: one row per point, one per trial, with one fixed set of columns.

The dataclasses below are the only definition of the columns: names, order, types. Fractions are in
[0, 1]; an unknown value is null, never a made-up number.
"""

from __future__ import annotations

import json
import statistics
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self

import pyarrow as pa

from search import objectives
from search.objectives import pareto
from search.objectives.replicates import Replicated, deviation, mean_point
from search.space.parameters import Parameter, standing_for
from search.study.spec import StudySpec
from trainables.metrics import CLEAN_ACCURACY, ROBUST_ACCURACY, wilson
from trainables.store.flags import remark
from trainables.store.records import Outcome, Point, TrialRecord, point_id

PARAM = "param."
"""Prefix of the column of a searched parameter, before its dotted path."""

METRIC = "metric."
"""Prefix of the column of a metric, before its name."""

APART = {"column": False}
"""The metadata of a field of a row that is no column."""


@dataclass(frozen=True)
class PointRow:
    """One measured network of a complete trial.

    Accuracies with `_mean` and `_sd` are over the `seeds` networks that the replicates of the trial's configuration
    have at this measurement; all of them say the same. `params` are the trial's parameters, as issued, `measured` is
    the record itself, `replicates` are the records of those networks. `settled` is False where a replicate has not
    ended, or was stopped early: means of the others do not compare. These are not columns.
    """

    point: str
    trial: int
    study: str
    recipe: str | None
    seed: int
    model: str | None
    data: str | None
    on_front: bool
    feasible: bool
    status: str
    flags: tuple[str, ...]
    robust_accuracy: float
    robust_accuracy_low: float
    robust_accuracy_high: float
    clean_accuracy: float
    clean_accuracy_low: float
    clean_accuracy_high: float
    examples: int
    sparsity: float
    nonzero: int
    prunable: int
    macs_dense: int | None
    macs_effective: int | None
    attack: str
    norm: str
    eps: float
    eps_text: str
    split: str
    tier: str
    epochs_trained: int
    epochs_shared: int
    seconds: float
    device: str
    weights_sha256: str
    code_version: str
    started: str
    finished: str
    weights_outside: int | None
    epoch: int | None
    configuration: int | None
    seeds: int
    robust_accuracy_mean: float
    robust_accuracy_sd: float | None
    clean_accuracy_mean: float
    clean_accuracy_sd: float | None
    params: Mapping[str, Any] = field(metadata=APART)
    measured: Point = field(metadata=APART)
    replicates: tuple[Point, ...] = field(metadata=APART)
    settled: bool = field(metadata=APART)

    @cached_property
    def judged(self) -> Point:
        """What objectives and constraints read: the measured point, or the mean over its replicates."""
        return self.measured if self.configuration is None else mean_point(self.replicates)

    def for_all_replicates(self) -> Self:
        """Return the row where it stands for all its replicates: with their worst status, and the flags of all."""
        return replace(self, status=self.judged.status, flags=tuple(self.judged.flags))

    @property
    def network(self) -> tuple[Any, ...]:
        """What distinguishes rows in tables that list a network, or the networks of all seeds, once.

        Trials that share it are one, and so are configurations that share those of all their replicates.
        """
        return tuple(sorted(point.key for point in self.replicates))

    @property
    def remark(self) -> str:
        """What stands beside the point wherever it is shown: its status and flags, nothing where all is well."""
        return remark(self.status, self.flags)

    @property
    def own_params(self) -> Mapping[str, Any]:
        """The parameters of a trial that would have ended with this measurement."""
        return standing_for(self.params, self.measured.stands_for)


@dataclass(frozen=True)
class TrialRow:
    """One issued trial. `state` is that of its outcome, None while it has none; `failure` is a class of failures."""

    trial: int
    study: str
    state: str | None
    recipe: str | None
    seed: int
    points: int
    seconds: float | None
    failure: str | None
    message: str | None
    host: str | None
    issued: str
    started: str | None
    finished: str | None
    params: Mapping[str, Any] = field(metadata=APART)


Trials = Sequence[tuple[TrialRecord, Outcome | None]]


def point_rows(spec: StudySpec, trials: Trials) -> list[PointRow]:
    """Return the points of the complete trials, in order of trial and measurement, with the front marked.

    On the front are the valid, feasible points that no other such point dominates.
    """
    complete = [(trial, outcome) for trial, outcome in trials if outcome and outcome.state == "complete"]
    points = [(trial, point) for trial, outcome in complete for point in outcome.points]
    alike = _replicates(points)
    judged = [_judged(trial, point, alike) for trial, point in points]
    feasible = [objectives.feasible(point, spec) for point in judged]
    replicated = Replicated(spec.seeds)
    for trial, outcome in trials:
        if outcome is not None:
            replicated.add(trial, outcome)
    settled = [replicated.settled(trial.configuration) for trial, _ in points]
    values = [
        objectives.values(point, spec) if fits and objectives.valid(point, spec) and counts else None
        for point, fits, counts in zip(judged, feasible, settled, strict=True)
    ]
    rows = zip(points, feasible, pareto.front(values), settled, strict=True)
    return [_point_row(trial, point, fits, best, counts, alike) for (trial, point), fits, best, counts in rows]


_Alike = Mapping[tuple[int, int], tuple[Point, ...]]
"""The points of the replicates of a configuration, by its number and that of the measurement."""


def _replicates(points: Sequence[tuple[TrialRecord, Point]]) -> _Alike:
    found: dict[tuple[int, int], tuple[Point, ...]] = {}
    for trial, point in points:
        if trial.configuration is not None:
            at = trial.configuration, point.measure
            found[at] = (*found.get(at, ()), point)
    return found


def _judged(trial: TrialRecord, point: Point, alike: _Alike) -> Point:
    return point if trial.configuration is None else mean_point(alike[trial.configuration, point.measure])


def front_stages(spec: StudySpec, trials: Trials) -> set[str]:
    """Return the keys of the stages with the networks of the front, which garbage collection keeps."""
    return {row.measured.stage for row in point_rows(spec, trials) if row.on_front}


def trial_rows(trials: Trials) -> list[TrialRow]:
    """Return every issued trial, in order of number."""
    return [_trial_row(trial, outcome) for trial, outcome in trials]


def _kind(trial: TrialRecord, part: str) -> str | None:
    described = trial.spec.get(part)
    kind = described.get("kind") if isinstance(described, Mapping) else described
    return kind if isinstance(kind, str) else None


def _point_row(
    trial: TrialRecord, point: Point, feasible: bool, on_front: bool, settled: bool, alike: _Alike
) -> PointRow:
    replicates = (point,) if trial.configuration is None else alike[trial.configuration, point.measure]
    robusts, cleans = ([getattr(each, name) for each in replicates] for name in (ROBUST_ACCURACY, CLEAN_ACCURACY))
    robust = wilson(point.robust_correct, point.examples)
    clean = wilson(point.clean_correct, point.examples)
    same = {name: getattr(point, name) for name in _SHARED}
    return PointRow(
        point=point_id(trial.number, point.measure),
        trial=trial.number,
        study=trial.study,
        recipe=_kind(trial, "recipe"),
        seed=trial.seed,
        model=_kind(trial, "model"),
        data=_kind(trial, "data"),
        on_front=on_front,
        feasible=feasible,
        robust_accuracy_low=robust[0],
        robust_accuracy_high=robust[1],
        clean_accuracy_low=clean[0],
        clean_accuracy_high=clean[1],
        configuration=trial.configuration,
        seeds=len(replicates),
        robust_accuracy_mean=statistics.fmean(robusts),
        robust_accuracy_sd=deviation(robusts),
        clean_accuracy_mean=statistics.fmean(cleans),
        clean_accuracy_sd=deviation(cleans),
        params=trial.params,
        measured=point,
        replicates=replicates,
        settled=settled,
        **same,
    )


_SHARED = [each.name for each in fields(PointRow) if each.name in Point.model_fields]


def _trial_row(trial: TrialRecord, outcome: Outcome | None) -> TrialRow:
    failure = outcome.failure if outcome else None
    return TrialRow(
        trial=trial.number,
        study=trial.study,
        state=outcome.state if outcome else None,
        recipe=_kind(trial, "recipe"),
        seed=trial.seed,
        points=len(outcome.points) if outcome else 0,
        seconds=outcome.seconds if outcome else None,
        failure=failure.kind if failure else None,
        message=failure.message if failure else None,
        host=(outcome.host or None) if outcome else None,
        issued=trial.issued,
        started=outcome.started if outcome else None,
        finished=outcome.finished if outcome else None,
        params=trial.params,
    )


_ARROW: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    tuple[str, ...]: pa.list_(pa.field("element", pa.string())),
}


class AsColumns(typing.Protocol):
    """A dataclass of which a table is made: its fields but those `APART` are the columns.

    `params` has those of the searched parameters.
    """

    __dataclass_fields__: typing.ClassVar[dict[str, Any]]

    @property
    def params(self) -> Mapping[str, Any]: ...


def columns(kind: type[AsColumns]) -> list[pa.Field]:
    """Return the fixed columns of a table, without the parameters."""
    hints = typing.get_type_hints(kind)
    result = []
    for name in (each.name for each in fields(kind) if each.metadata.get("column", True)):
        options = typing.get_args(hints[name]) if isinstance(hints[name], types.UnionType) else (hints[name],)
        known = next(option for option in options if option is not types.NoneType)
        result.append(pa.field(name, _ARROW[known], nullable=types.NoneType in options))
    return result


def table(kind: type[AsColumns], rows: Sequence[AsColumns], space: Mapping[str, Parameter]) -> pa.Table:
    """Build the Arrow table of `rows`.

    The fixed columns come first, then a column `param.<path>` for each searched parameter in their order, then, for
    points, a column `metric.<name>` for each metric that any of them has, by name.
    """
    fixed = columns(kind)
    arrays = [pa.array([getattr(row, column.name) for row in rows], column.type) for column in fixed]
    searched = []
    for path, parameter in space.items():
        values = [row.params.get(path) for row in rows]
        column = _param_type([*parameter.extremes().values(), *values])
        searched.append(pa.field(PARAM + path, column))
        arrays.append(pa.array([_param_cell(value, column) for value in values], column))
    points = [measured.metrics if (measured := getattr(row, "measured", None)) else {} for row in rows]
    names = sorted({name for metrics in points for name in metrics})
    arrays += [pa.array([metrics.get(name) for metrics in points], pa.float64()) for name in names]
    metrics = [pa.field(METRIC + name, pa.float64()) for name in names]
    return pa.Table.from_arrays(arrays, schema=pa.schema([*fixed, *searched, *metrics]))


def _param_type(values: Iterable[Any]) -> pa.DataType:
    """Return the narrowest type that holds a parameter's values: bool, int64, float64, else text."""
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, bool) for value in known):
        return pa.bool_()
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in known):
        return pa.string()
    return pa.int64() if all(isinstance(value, int) for value in known) and known else pa.float64()


def _param_cell(value: Any, column: pa.DataType) -> Any:
    if value is None or column != pa.string():
        return value
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
