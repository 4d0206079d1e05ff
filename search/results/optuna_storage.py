"""A study as an Optuna storage: an SQLite file that optuna-dashboard and `optuna.load_study` open."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from search import objectives
from search.results.exporters.output import OutputError, check_outside, full_disk_reported, write_output
from search.store import driver_lock
from search.study.spec import StudySpec
from trainables import __version__
from trainables.store.records import Outcome, PartialMeasurement, Point, TrialRecord, point_id

if TYPE_CHECKING:
    from search.results.study import Study
    from search.results.table import PointRow
    from search.samplers.optuna.database import StoredTrial

MARK = "robustsearch.study"
"""The attribute of Optuna's study that names ours: such a file is ours to replace."""
_SHOWN = ("robust_accuracy", "clean_accuracy", "sparsity", "status", "flags")
_SIZES = ("nonzero", "prunable", "macs_dense", "macs_effective", "examples", "epochs_trained", "epochs_shared")


def write(study: Study, output: Path, *, force: bool = False) -> Path:
    """Write the study to `output` atomically. An earlier file of this study is replaced, with `force` any other file.

    Raises:
        OutputError: there is another file, or the output cannot be written there.
        StorageError: the disk is full or failing.
    """
    home = study.records.storage.local
    if home is not None:
        check_outside(output, home)
    if not force:
        _check_ours(study, output)
    with TemporaryDirectory(prefix="robustsearch-") as folder:
        file = Path(folder) / "study.db"
        with full_disk_reported(file):
            _build(study, file)
        return write_output(file.read_bytes(), output, records=home)


def _check_ours(study: Study, output: Path) -> None:
    if not output.exists():
        return
    if output.is_file() and _studies_in(output) == [study.name]:
        if busy := [f"{output}{end}" for end in ("-journal", "-wal") if Path(f"{output}{end}").exists()]:
            raise OutputError(
                f"{output} is being written by another program: {busy[0]} exists; close that program, or use --force"
            )
        return
    raise OutputError(f"{output} exists and is not what this command wrote for {study.name}; --force replaces it")


def _studies_in(file: Path) -> list[str | None]:
    """Return for each study in an Optuna storage the name of ours, None for others; nothing for other files."""
    query = (
        "select value_json from studies left join study_user_attributes as attribute "
        "on attribute.study_id = studies.study_id and attribute.key = ?"
    )
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
            return [None if name is None else str(name).strip('"') for (name,) in database.execute(query, (MARK,))]
    except sqlite3.Error:
        return []


def _build(study: Study, file: Path) -> None:
    from search.samplers.optuna.database import write_database

    spec = study.spec
    about = {
        MARK: study.name,
        "robustsearch.version": __version__,
        "constraints": dict(spec.constraints),
        "attack": spec.protocol.attack.label,
        "norm": spec.protocol.attack.norm,
        "eps": spec.protocol.eps.text,
    }
    write_database(file, study.name, spec.objectives, spec.space, _trials(study), about)


def _trials(study: Study) -> Iterator[StoredTrial]:
    """Yield the trials in order of number; one whose record is damaged is a failed one, so that numbers stay."""
    from search.samplers.optuna.database import StoredTrial

    launched = driver_lock.driver(study.records.storage) is not None
    damaged = {each.number: f"{each.path}: {each.reason}" for each in study.damaged()}
    trials = {record.number: (record, outcome) for record, outcome in study.records.trials()}
    rows = {row.point: row for row in study.points()}
    created = study.records.fingerprint.created
    for number in range(max((*trials, *damaged), default=-1) + 1):
        if number in trials:
            yield _trial(study.spec, *trials[number], rows, launched)
        else:
            reason = damaged.get(number, "its record is missing")
            yield StoredTrial("failed", {}, None, {}, {}, {"failure": "damaged", "message": reason}, created, created)


def _trial(
    spec: StudySpec, record: TrialRecord, outcome: Outcome | None, rows: dict[str, PointRow], launched: bool
) -> StoredTrial:
    from search.samplers.optuna.database import StoredTrial

    if outcome is None:
        state = "running" if launched else "waiting"
        return StoredTrial(state, record.params, None, {}, {}, {"state": state}, record.issued, None)  # type: ignore[arg-type]
    last = outcome.points[-1] if outcome.points else None
    values = _values(last, spec) if last is not None and objectives.valid(last, spec) else None
    useless: Literal["stopped", "failed"] = "stopped" if last is not None and last.tier == "screened" else "failed"
    state = useless if outcome.state == "complete" and values is None else outcome.state
    intermediate = _intermediate(outcome, spec) if len(spec.objectives) == 1 else {}
    if state == "stopped" and len(spec.objectives) == 1 and values is None and intermediate:
        values = (intermediate[max(intermediate)],)
    violations = dict(zip(spec.constraints, objectives.violations(last, spec), strict=True)) if last else {}
    complete = state == "complete"
    return StoredTrial(
        state,
        record.params,
        values if complete or len(spec.objectives) == 1 else None,
        violations if complete else {},
        intermediate,
        _attributes(spec, record, outcome, rows, values),
        outcome.started,
        outcome.finished,
    )


def _values(measured: Point | PartialMeasurement, spec: StudySpec) -> tuple[float, ...]:
    """Return the measures themselves, which Optuna's directions belong to, not their normalised form."""
    return tuple(float(getattr(measured, measure)) for measure in spec.objectives)


def _intermediate(outcome: Outcome, spec: StudySpec) -> dict[int, float]:
    """Return the objective by the epochs that the trial had trained itself."""
    (measure,) = spec.objectives
    found = [(rung.resource, getattr(rung, measure)) for rung in outcome.rungs]
    found += [(point.epochs_trained, getattr(point, measure)) for point in outcome.points]
    return {epoch: float(value) for epoch, value in found if value is not None}


def _attributes(
    spec: StudySpec,
    record: TrialRecord,
    outcome: Outcome,
    rows: dict[str, PointRow],
    values: tuple[float, ...] | None,
) -> dict[str, Any]:
    """Return what Optuna shows beside values and parameters: the last point, and all points as one JSON value."""
    found: dict[str, Any] = {"state": outcome.state, "seed": record.seed}
    if outcome.failure:
        found |= {"failure": outcome.failure.kind, "message": outcome.failure.message}
    if values is not None and outcome.state != "complete":
        found["last_values"] = dict(zip(spec.objectives, values, strict=True))
    ids = [point_id(outcome.number, point.measure) for point in outcome.points]
    on_front = [name for name in ids if name in rows and rows[name].on_front]
    if outcome.points:
        last = outcome.points[-1]
        found |= {"point": ids[-1], "on_front": on_front, **{name: getattr(last, name) for name in _SHOWN}}
    found["points"] = [
        {"point": name, **{key: getattr(point, key) for key in (*_SHOWN, *_SIZES)}, "metrics": point.metrics}
        for name, point in zip(ids, outcome.points, strict=True)
    ]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
