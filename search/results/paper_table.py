"""A paper's table beside what a study measured, and the paper's claims with verdicts."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from search.objectives.replicates import deviation
from search.results.bootstrap import unpacked_passes
from search.results.confirmed_network import Replicate
from search.results.exporters.base import CAPTION
from search.results.verdicts import Arm, Bound, Difference, Every, Interval, Judgement, Mean, Some, Statement, Untested
from search.study import reproduction
from search.study.reproduction import Cell, Claim, Column, Comparison, Number, Row
from search.study.spec import Reproduces, StudySpec
from trainables.core.errors import SpecError
from trainables.core.spec import plain
from trainables.metrics import ROBUST_ACCURACY
from trainables.metrics.base import Metric

if TYPE_CHECKING:
    from search.results.confirmed import ConfirmedRow
    from search.results.table import PointRow
    from search.store.records import Records
    from trainables.store.records import TrialRecord

NEAR = 0.004
"""How far a network's sparsity may be from that of a row: no two rows of a table are as close."""
METRIC, CONFIRMED = "metric.", "confirmed."
FEWEST = 8
"""Images of which stored bits say which were correct in how many passes."""


class Study(Protocol):
    """What is read of a `search.results.study.Study`, which has these tables."""

    @property
    def spec(self) -> StudySpec: ...

    records: Records

    def points(self) -> list[PointRow]: ...

    def confirmed(self, examples: int | str | None = None) -> list[ConfirmedRow]: ...


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
    of = _reproduces(study.spec)
    table = reproduction.table(of)
    networks: dict[tuple[Any, ...], list[PointRow]] = {}
    for row in study.points():
        networks.setdefault(row.network, []).append(row)
    confirmed = {each.weights_sha256: each for row in study.confirmed() for each in row.replicates}
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


def claims_table(study: Study) -> pa.Table:
    """Return the paper's claims with their verdicts as an Arrow table, whose metadata hold its caption.

    Raises:
        SpecError: as `filled`.
    """
    cells = {(cell.row, cell.column): cell for cell in filled(study)}
    rows = [_judged(claim, cells) for claim in reproduction.table(_reproduces(study.spec)).claims]
    title = f"Claims about {_title(study.spec)}"
    told = "\n".join([title, *_warnings(study), _READING])
    return pa.Table.from_pylist(rows, schema=_CLAIMS.with_metadata({CAPTION: told}))


_READING = (
    "Differences of accuracies are in points, intervals of 95 %. A verdict is wrong in at most 2.5 % of cases on either"
    " side; where one of several levels is enough, it is corrected for their number."
)


def points(study: Study) -> list[str]:
    """Return the ids of the networks of the table, each once.

    Raises:
        SpecError: as `filled`.
    """
    return list(dict.fromkeys(point for cell in filled(study) for point in cell.points))


def caption(study: Study) -> str:
    """Return what the table is, how it was measured, and how the study differs from the paper's, in paragraphs.

    Raises:
        SpecError: as `filled`.
    """
    spec = study.spec
    table = reproduction.table(_reproduces(spec))
    seeds = len({record.seed for record in _complete(study)}) or len(spec.replicates)
    published = len(reproduction.study(_reproduces(spec)).replicates)
    counted = f"{seeds} seed{'' if seeds == 1 else 's'}{'' if seeds == published else f' of {published}'}"
    spread = "mean, standard deviation over seeds, and 95 % interval of the mean"
    images = f"{spec.protocol.examples or spec.data.validation} validation images"
    parts = [
        _title(spec),
        f"Paper: {table.evidence}. Ours: {f'{spread}; ' if seeds > 1 else ''}{counted}, {images}.",
        *_warnings(study),
    ]
    if table.differs:
        parts.append(f"Known to differ from the paper: {'; '.join(table.differs)}.")
    if changed := _changed(spec):
        parts.append(f"Set otherwise: {'; '.join(changed)}.")
    return "\n".join(parts)


def _title(spec: StudySpec) -> str:
    of = _reproduces(spec)
    return f"{reproduction.paper(of.paper).title}: {reproduction.table(of).title}."


def _warnings(study: Study) -> list[str]:
    """Return what nobody may overlook: that trainings were shortened, or trials are missing."""
    spec = study.spec
    of = _reproduces(spec)
    found = []
    if of.scale != 1:
        whole = reproduction.study(Reproduces(paper=of.paper, table=of.table)).recipe.epochs
        first = f"the first training has {spec.recipe.epochs} of {whole} epochs"
        found.append(f"SHORTENED: all that counts epochs or steps is {of.scale:g} times as long; {first}.")
    if (left := spec.planned - len(_complete(study))) > 0:
        found.append(f"INCOMPLETE: {left} of {spec.planned} trials are not complete.")
    return found


def _complete(study: Study) -> list[TrialRecord]:
    return [record for record, outcome in study.records.trials() if outcome is not None and outcome.state == "complete"]


def _changed(spec: StudySpec) -> list[str]:
    """Return what of a study is not as the paper's file has it, besides its lengths and seeds."""
    published = reproduction.study(_reproduces(spec))
    return list(_differences(plain(published, hashed=True), plain(spec, hashed=True)))


_LAUNCHING = ("name", "budget", "description", "stage_storage", "timeouts", "max_failures", "abort_after")
_TOLD_ELSEWHERE = ("reproduces", "seeds")
_EXECUTION = ("data.root", "data.download", "recipe.train.precision", "shrink", "sparse")
_NOT_TOLD = {*_LAUNCHING, *_TOLD_ELSEWHERE, *_EXECUTION}
"""Keys whose differences a caption does not list."""


def _differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield what of nested plain data is another, with its dotted path; specs in lists are named by their kind."""
    if path in _NOT_TOLD or before == after:
        return
    old, new = _parts(before), _parts(after)
    if old is None or new is None:
        yield f"{path} is {_shown(after)} instead of {_shown(before)}"
        return
    for name in dict.fromkeys((*old, *new)):
        inner = f"{path}.{name}" if path else name
        if name not in new:
            yield f"{inner} is left out"
        elif name not in old:
            yield f"{inner} is {_shown(new[name])}"
        else:
            yield from _differences(old[name], new[name], inner)


def _parts(value: Any) -> Mapping[str, Any] | None:
    """Return the named parts of a mapping or of a list of specs; None of all else."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and value and all(isinstance(each, Mapping) and "kind" in each for each in value):
        named = {each.get("name") or each["kind"]: each for each in value}
        return named if len(named) == len(value) else None
    return None


def _shown(value: Any) -> str:
    """Return a value as a caption has it, long ones by their kinds."""
    if isinstance(value, Mapping):
        return str(value.get("name") or value.get("kind", "given"))
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def _reproduces(spec: StudySpec) -> Reproduces:
    if spec.reproduces is None:
        raise SpecError(f"{spec.name} fills no table of a paper; `robustsearch reproduce` makes studies that do")
    return spec.reproduces


@dataclass(frozen=True)
class _Measured:
    """The number of one network: accuracies with the images they are of, and which of them were correct if known."""

    value: float
    examples: int | None = None
    verdicts: str = ""
    clean: float | None = None


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
    values, examples = [found.value for found in each], each[0].examples
    if examples is None:
        return Arm.of(values)
    outcomes = None
    if examples >= FEWEST and all(found.verdicts for found in each):
        outcomes = np.array([unpacked_passes(found.verdicts, examples) for found in each])
    clean = [found.clean for found in each if found.clean is not None]
    return Arm.accuracy(values, examples, outcomes=outcomes, clean=clean, chance=1 / classes)


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
        return _Measured(accuracy.value, accuracy.examples, verdicts, found.clean.value)
    if not name.startswith(METRIC):
        verdicts = row.measured.verdicts if name == ROBUST_ACCURACY else row.measured.outcomes.get(name, "")
        return _Measured(getattr(row, name), row.examples, verdicts, clean)
    name = name.removeprefix(METRIC)
    if (value := row.measured.metrics.get(name)) is None:
        return None
    if not column.accuracy:
        return _Measured(value)
    # A metric that has fewer images than the protocol names its numbers after its kind.
    fewer = [n for metric in metrics if name.startswith(metric.kind) and (n := getattr(metric, "examples", None))]
    return _Measured(value, min([row.examples, *fewer]), row.measured.outcomes.get(name, ""), clean)


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


_CLAIMS = pa.schema(
    [
        pa.field("claim", pa.string(), nullable=False),
        pa.field("paper", pa.string(), nullable=False),
        pa.field("ours", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("why", pa.string(), nullable=False),
    ]
)


def _judged(claim: Claim, cells: Mapping[Cell, Filled]) -> dict[str, Any]:
    statements = [_statement(each, cells) for each in claim.every]
    if claim.some:
        statements.append(Some(tuple(_statement(each, cells) for each in claim.some)))
    judgement: Judgement = Every(tuple(statements)).judged()
    parts = (*claim.every, *claim.some)
    return {
        "claim": claim.text,
        "paper": _listed(parts, [_published(each, cells) for each in parts], "not known"),
        "ours": _listed(parts, [_found(each, cells) for each in parts], "not measured"),
        "verdict": judgement.verdict,
        "why": judgement.why,
    }


def _statement(each: Comparison, cells: Mapping[Cell, Filled]) -> Statement:
    quantity = _quantity(each, cells)
    if quantity is None:
        return Untested()
    unit = 100 if cells[each.of].percent and not each.relative else 1
    bounds = {name: getattr(each, name) for name in ("at_least", "more_than", "at_most", "less_than")}
    return Bound(quantity, **{name: bound / unit for name, bound in bounds.items() if bound is not None})


def _quantity(each: Comparison, cells: Mapping[Cell, Filled]) -> Mean | Difference | None:
    """Return what a comparison is about, over the seeds that all its cells have; None where nothing was measured."""
    ours, theirs = cells[each.of], cells[each.than] if each.than else None
    if ours.arm is None or (theirs is not None and theirs.arm is None):
        return None
    if theirs is None or theirs.arm is None:
        return Mean(ours.arm)
    common = [seed for seed in ours.seeds if seed in theirs.seeds]
    return Difference(_of(ours, common), _of(theirs, common), each.relative) if common else None


def _of(cell: Filled, seeds: Sequence[int]) -> Arm:
    arm = cell.arm
    assert arm is not None
    chosen = [cell.seeds.index(seed) for seed in seeds]
    outcomes = None if arm.outcomes is None else np.asarray(arm.outcomes)[chosen]
    return Arm(arm.values[chosen], arm.examples, outcomes, arm.chance, arm.collapsed)


_Number = tuple[float, str]
"""A number, and how it is written."""
_MANY = 4
"""Of more parts of a claim, only the least and the most are written."""


def _listed(parts: Sequence[Comparison], numbers: Sequence[_Number | None], missing: str) -> str:
    """Write the numbers of a claim's parts, each with what tells its cell from the others'."""
    unlike = [at for at in (0, 1) if len({each.of[at] for each in parts}) > 1]
    labels = [", ".join(each.of[at] for at in unlike) for each in parts]
    there = [(*number, label) for number, label in zip(numbers, labels, strict=True) if number is not None]
    if not there:
        return missing
    if len(parts) > _MANY:
        (_, least, lower), (_, most, upper) = min(there), max(there)
        some = "" if len(there) == len(parts) else f", of {len(there)} of {len(parts)}"
        return f"from {least} ({lower}) to {most} ({upper}){some}"
    texts = [missing if number is None else number[1] for number in numbers]
    return "; ".join(f"{label}: {text}" if label else text for label, text in zip(labels, texts, strict=True))


def _published(each: Comparison, cells: Mapping[Cell, Filled]) -> _Number | None:
    ours, theirs = cells[each.of], cells[each.than] if each.than else None
    if ours.paper is None or (theirs is not None and theirs.paper is None):
        return None
    if theirs is None or theirs.paper is None:
        return ours.paper, f"{100 * ours.paper:.1f}" if ours.percent else f"{ours.paper:.3g}"
    if each.relative:
        found = ours.paper / theirs.paper - 1
        return found, f"{100 * found:+.1f} %"
    found = ours.paper - theirs.paper
    return found, f"{100 * found:+.1f}" if ours.percent else f"{found:+.3g}"


def _found(each: Comparison, cells: Mapping[Cell, Filled]) -> _Number | None:
    if (quantity := _quantity(each, cells)) is None:
        return None
    found = quantity.interval()
    # That there is one seed is said by the verdict.
    text = (found.text(100) if cells[each.of].percent or each.relative else found.text(1, 3)).removesuffix(
        " (one seed)"
    )
    sign = "+" if each.than and text[0].isdigit() else ""
    return found.mean, f"{sign}{text}{' %' if each.relative else ''}"
