"""The cells of a paper's table: the published number of each, and what the study measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from search.objectives.replicates import deviation
from search.results.bootstrap import unpacked_passes
from search.results.confirmed_network import Replicate
from search.results.exporters.base import CAPTION
from search.results.paper.base import Study, reproduces
from search.results.paper.caption import caption
from search.results.verdicts import Arm, Interval, Mean, collapsed
from search.study import reproduction
from search.study.reproduction import Column, Number, Row
from trainables.metrics import ROBUST_ACCURACY
from trainables.metrics.base import Metric

if TYPE_CHECKING:
    from search.results.table import PointRow

NEAR = 0.004
"""How far a network's sparsity may be from that of a row: no two rows of a table are as close."""
METRIC, CONFIRMED = "metric.", "confirmed."
FEWEST = 8
"""Images of which stored bits say which were correct in how many passes."""


@dataclass(frozen=True)
class Filled:
    """One cell: the published number, and ours, one per seed. Accuracies are fractions."""

    row: str
    column: str
    paper: float | None
    paper_sd: float | None
    percent: bool
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    examples: int | None
    points: tuple[str, ...]
    arm: Arm | None

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the mean over seeds and images; None where nothing was measured."""
        return None if self.arm is None else Mean(self.arm).interval()


def filled(study: Study) -> list[Filled]:
    """Return the cells of the table that a study fills, row by row.

    Raises:
        SpecError: the study fills no table, or this version does not have it.
    """
    of = reproduces(study.spec)
    table = reproduction.table(of)
    networks: dict[tuple[Any, ...], list[PointRow]] = {}
    for row in study.points():
        at = row.network if row.configuration is None else (row.configuration, row.measured.measure)
        networks.setdefault(at, []).append(row)
    confirmed = _confirmed(study)
    metrics = study.spec.protocol.metrics
    cells = []
    for line in table.rows:
        for column, number in zip(table.columns, line.paper or (None,) * len(table.columns), strict=True):
            wanted = reproduction.conditions(of, line, column, study.spec.measure_at)
            found = next((rows for rows in networks.values() if _meets(rows[0], wanted)), [])
            by_seed = {row.seed: (row, value) for row in found if (value := _measured(row, column, confirmed, metrics))}
            measured = [(seed, *by_seed[seed]) for seed in sorted(by_seed)]
            cells.append(_cell(line, column, number, measured, study.records.fingerprint.classes))
    return cells


def paper_table(study: Study) -> pa.Table:
    """Return the cells as an Arrow table, whose metadata hold its caption.

    Raises:
        SpecError: as `filled`.
    """
    rows = [_plain(cell) for cell in filled(study)]
    return pa.Table.from_pylist(rows, schema=_CELLS.with_metadata({CAPTION: caption(study)}))


def points(study: Study) -> list[str]:
    """Return the ids of the networks of the table, each once.

    Raises:
        SpecError: as `filled`.
    """
    return list(dict.fromkeys(point for cell in filled(study) for point in cell.points))


@dataclass(frozen=True)
class _Measured:
    """The number of one network, and its accuracy on clean images.

    Accuracies have the images that they are of, and which of them were correct if known.
    """

    value: float
    clean: float
    examples: int | None = None
    verdicts: str = ""


def _confirmed(study: Study) -> dict[str, Replicate]:
    """Return the confirmed networks by their weights: without those of which attacks are missing."""
    return {
        each.weights_sha256: each
        for row in study.confirmed()
        for each in row.replicates
        if row.complete or each.weights_sha256 != row.weights_sha256
    }


def _cell(
    line: Row, column: Column, number: Number, measured: Sequence[tuple[int, PointRow, _Measured]], classes: int
) -> Filled:
    mean, sd = number if isinstance(number, tuple) else (number, None)
    unit = 100 if column.accuracy else 1
    each = [found for _, _, found in measured]
    return Filled(
        row=line.name,
        column=column.name,
        paper=None if mean is None else mean / unit,
        paper_sd=None if sd is None else sd / unit,
        percent=column.accuracy,
        seeds=tuple(seed for seed, _, _ in measured),
        values=tuple(found.value for found in each),
        examples=each[0].examples if each else None,
        points=tuple(row.point for _, row, _ in measured),
        arm=_arm(each, classes) if each else None,
    )


def _arm(each: Sequence[_Measured], classes: int) -> Arm:
    values, clean, examples = [found.value for found in each], [found.clean for found in each], each[0].examples
    chance = 1 / classes
    if examples is None:
        return Arm.of(values, collapsed=any(collapsed(value, chance) for value in clean))
    outcomes = None
    if examples >= FEWEST and all(found.verdicts for found in each):
        outcomes = np.array([unpacked_passes(found.verdicts, examples) for found in each])
    return Arm.accuracy(values, examples, outcomes=outcomes, clean=clean, chance=chance)


def _measured(
    row: PointRow, column: Column, confirmed: Mapping[str, Replicate], metrics: Sequence[Metric]
) -> _Measured | None:
    """Return the number of a network that a column shows, None where it has none."""
    name, clean = column.value, row.clean_accuracy
    if name.startswith(CONFIRMED):
        if (found := confirmed.get(row.weights_sha256)) is None:
            return None
        robust = name.removeprefix(CONFIRMED) == ROBUST_ACCURACY
        accuracy, verdicts = (found.robust, found.verdicts) if robust else (found.clean, found.clean_verdicts)
        return _Measured(accuracy.value, found.clean.value, accuracy.examples, verdicts)
    if not name.startswith(METRIC):
        verdicts = row.measured.verdicts if name == ROBUST_ACCURACY else row.measured.outcomes.get(name, "")
        return _Measured(getattr(row, name), clean, row.examples, verdicts)
    name = name.removeprefix(METRIC)
    if (value := row.measured.metrics.get(name)) is None:
        return None
    if not column.accuracy:
        return _Measured(value, clean)
    # A metric that has fewer images than the protocol names its numbers after its kind.
    fewer = [n for metric in metrics if name.startswith(metric.kind) and (n := getattr(metric, "examples", None))]
    return _Measured(value, clean, min([row.examples, *fewer]), row.measured.outcomes.get(name, ""))


def _meets(row: PointRow, wanted: Mapping[str, Any]) -> bool:
    for name, value in wanted.items():
        if name == "sparsity":
            if abs(row.sparsity - value) > NEAR:
                return False
        elif name == "epoch":
            if row.epoch != value:
                return False
        elif name == "measure":
            if row.measured.measure != value:
                return False
        elif row.params.get(name) != value:
            return False
    return True


_CELLS = pa.schema(
    [
        pa.field("row", pa.string(), nullable=False),
        pa.field("column", pa.string(), nullable=False),
        pa.field("accuracy", pa.bool_(), nullable=False),
        pa.field("paper", pa.float64()),
        pa.field("paper_sd", pa.float64()),
        pa.field("mean", pa.float64()),
        pa.field("sd", pa.float64()),
        pa.field("seeds", pa.int64(), nullable=False),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("examples", pa.int64()),
        pa.field("points", pa.list_(pa.string()), nullable=False),
    ]
)


def _plain(cell: Filled) -> dict[str, Any]:
    interval = cell.interval
    return {
        "row": cell.row,
        "column": cell.column,
        "accuracy": cell.percent,
        "paper": cell.paper,
        "paper_sd": cell.paper_sd,
        "mean": statistics.fmean(cell.values) if cell.values else None,
        "sd": deviation(cell.values),
        "seeds": len(cell.values),
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "examples": cell.examples,
        "points": list(cell.points),
    }
