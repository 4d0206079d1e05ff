"""The trials of a study as trackers of experiments see them: runs with parameters, tags and series of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from search.results import curves
from search.store import driver_lock
from trainables.metrics import wilson
from trainables.store.records import Outcome, Point, TrialRecord, point_id
from trainables.store.stages import Stages

if TYPE_CHECKING:
    from search.results.confirmed import ConfirmedRow
    from search.results.study import Study
    from search.results.table import PointRow

PER_SPARSITY = 10_000
"""Steps of a series over sparsity: a step is a hundredth of a percent, as trackers count in whole steps."""
_FINAL = (
    "robust_accuracy",
    "clean_accuracy",
    "sparsity",
    "nonzero",
    "macs_effective",
    "epochs_trained",
    "epochs_shared",
)

_CONFIRMED = tuple(
    f"{kind}_accuracy{end}" for kind in ("robust", "clean") for end in ("", "_low", "_high", "_mean", "_sd")
)

State = Literal["complete", "stopped", "failed", "running", "waiting"]


@dataclass(frozen=True)
class Row:
    """Numbers of one moment: of a measured `point`, or of an epoch of training (`train`). Units: Unix seconds."""

    series: Literal["point", "train"]
    step: int
    time: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """One trial. `final` are the numbers of its last point. Units: Unix seconds."""

    name: str
    study: str
    state: State
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    final: Mapping[str, float]
    rows: tuple[Row, ...]
    started: float
    finished: float | None


def runs(study: Study) -> list[Run]:
    """Return the trials of a study that can be read, in order of number."""
    points = {row.point: row for row in study.points()}
    confirmed = {row.point: row for row in study.confirmed() if row.complete}
    launched = driver_lock.driver(study.records.storage) is not None
    stages = Stages(study.records.storage)
    known = points, confirmed
    return [_run(study, record, outcome, known, stages, launched) for record, outcome in study.records.trials()]


def _run(
    study: Study,
    record: TrialRecord,
    outcome: Outcome | None,
    known: tuple[Mapping[str, PointRow], Mapping[str, ConfirmedRow]],
    stages: Stages,
    launched: bool,
) -> Run:
    state: State = outcome.state if outcome else "running" if launched else "waiting"
    started = _seconds(outcome.started if outcome else record.issued)
    measured = outcome.points if outcome else ()
    ids = [point_id(record.number, point.measure) for point in measured]
    points, confirmed = known
    front = [name for name in ids if name in points and points[name].on_front]
    last = measured[-1] if measured else None
    final = {name: getattr(last, name) for name in _FINAL} if last else {}
    rows = [_point_row(point, confirmed.get(name)) for name, point in zip(ids, measured, strict=True)]
    return Run(
        name=f"t{record.number}",
        study=study.name,
        state=state,
        params=dict(record.params),
        tags=_tags(study, record, outcome, state, front),
        final={name: float(value) for name, value in final.items() if value is not None},
        rows=(*_training_rows(stages, record, started), *rows),
        started=started,
        finished=_seconds(outcome.finished) if outcome else None,
    )


def _tags(study: Study, record: TrialRecord, outcome: Outcome | None, state: State, front: list[str]) -> dict[str, str]:
    measured = outcome.points if outcome else ()
    flags = dict.fromkeys(flag for point in measured for flag in point.flags)
    protocol = study.spec.protocol
    found = {
        "study": study.name,
        "trial": str(record.number),
        "state": state,
        "seed": str(record.seed),
        "front": ";".join(front),
        "flags": ";".join(flags),
        "status": measured[-1].status if measured else "",
        "attack": measured[-1].attack if measured else protocol.attack.label,
        "norm": protocol.attack.norm,
        "eps": protocol.eps.text,
        "split": measured[-1].split if measured else "",
        "tier": measured[-1].tier if measured else "",
        "failure": outcome.failure.kind if outcome and outcome.failure else "",
        "message": outcome.failure.message if outcome and outcome.failure else "",
    }
    return {name: text for name, text in found.items() if text}


def _point_row(point: Point, confirmed: ConfirmedRow | None) -> Row:
    values = {**{name: getattr(point, name) for name in _FINAL}, "examples": point.examples, "measure": point.measure}
    for name, correct in (("robust_accuracy", point.robust_correct), ("clean_accuracy", point.clean_correct)):
        values[f"{name}_low"], values[f"{name}_high"] = wilson(correct, point.examples)
    values |= {f"metric.{name}": value for name, value in point.metrics.items()}
    if confirmed is not None:
        values |= {f"confirmed_{name}": getattr(confirmed, name) for name in _CONFIRMED}
    known = {name: float(value) for name, value in values.items() if value is not None}
    return Row("point", round(PER_SPARSITY * point.sparsity), _seconds(point.finished), known)


def _training_rows(stages: Stages, record: TrialRecord, started: float) -> Iterator[Row]:
    """Yield the epochs of the trainings whose curves are stored, numbered through the trial."""
    for curve in curves.curves(stages, record):
        for epoch in curve.epochs:
            values = {name: float(value) for name, value in asdict(epoch).items() if value is not None}
            at = curve.epoch_of_trial(epoch.epoch)
            yield Row("train", at, started, {**values, "epoch": float(at)})


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
