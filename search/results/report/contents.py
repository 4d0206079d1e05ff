"""What a report's template and script are given: the charts, the tables, and words for all that is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from search.files.messages import printable
from search.files.yaml import dump_yaml
from search.results import exporters, progress, status
from search.results.confirmed import ConfirmedRow
from search.results.exporters.base import (
    NORMS,
    OF_PAPERS,
    REFERENCE,
    What,
    number,
    one_line,
    percent_sparsity,
    readable,
)
from search.results.references import tables as reference_tables
from search.results.report import field_charts, results_charts, search_charts
from search.results.report.charts import Chart, accuracy, interval
from search.results.report.gather import Gathered
from search.results.report.tables import Table, copied, table_of
from search.results.study import Study
from search.results.table import PointRow
from search.study.spec import StudySpec
from trainables.core.spec import plain


def of(found: Gathered, study: Study) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values of the template, and the data of its script."""
    tables, copies = _tables(study)
    groups = _charts(found)
    values = {
        "found": found,
        "kind": "robustsearch report",
        "name": one_line(str(found.spec.name)),
        "lines": progress.lines(found.now),
        "running": [progress.trial_line(trial) for trial in found.now.trials],
        "answer": status.said(found.answer) if found.answer else None,
        "charts": groups,
        "tables": tables,
        "field": _field(found, study),
        "overfitting": _overfitting(found),
        "flags": _flags(found.points, found.front),
        "failures": _failures(found),
        "costs": _costs(found),
        "protocol": _protocol(found),
        "environment": _environment(found),
        "yaml": printable(dump_yaml(found.spec.resolved())),
    }
    figures = {key: each for group in groups.values() for key, _, each in group}
    chosen = status.best_of(found.front, found.knee).get("most robust") or next(iter(found.front), None)
    data = {
        "figures": figures,
        "copies": copies,
        "points": _points(found),
        "study": str(found.spec.name),
        "chosen": chosen.point if chosen else None,
    }
    return values, data


def _charts(found: Gathered) -> dict[str, list[tuple[str, str, Chart]]]:
    """Return the charts by section, each with its id and its heading; a section without data has none."""
    single = {
        "confirmed": results_charts.confirmed(found),
        "importance": search_charts.importance(found),
        "parallel": search_charts.parallel(found),
        "layers": search_charts.layers(found),
        "security": results_charts.security(found),
        "compute": search_charts.compute(found),
        "field": field_charts.field(found),
    }
    groups = {
        "front": [("", each) for each in results_charts.fronts(found)],
        "hypervolume": results_charts.hypervolume(found),
        "slices": search_charts.slices(found),
        "curves": [(f"trial {trial}", each) for trial, each in search_charts.curves(found)],
        **{name: [("", each)] if each else [] for name, each in single.items()},
    }
    return {
        name: [(f"{name}-{at}", heading, each) for at, (heading, each) in enumerate(group)]
        for name, group in groups.items()
    }


def _whats(spec: StudySpec) -> list[What]:
    """Return the tables that a study has."""
    found: list[What] = ["front", "points", "trials", "confirmed"]
    found += ["configurations"] if spec.seeds else []
    return found + (["paper", "claims"] if spec.reproduces is not None else [])


def _tables(study: Study) -> tuple[dict[str, Table], dict[str, str]]:
    """Return the tables of the exporters, and the texts of those that can be copied, by name and format."""
    found: dict[str, Table] = {}
    texts: dict[str, str] = {}
    for what in _whats(study.spec):
        rows = study.table(what, own_params=True)
        copies = copied(what, partial(exporters.text, study, what), rows.num_rows)
        shown = readable(rows, what=what, study=study.name)
        found[what] = table_of(what, shown, copies, points=what not in ("trials", *OF_PAPERS))
        texts |= copies
    return found, texts


def _field(found: Gathered, study: Study) -> Table | None:
    """Return the rows of the reference, where any matches."""
    if found.reference is None or not found.reference.rows:
        return None
    rows = reference_tables.table(found.reference, study.table("front"))
    return table_of("field", readable(rows, what=REFERENCE, study=study.name), {}, points=False)


def _points(found: Gathered) -> dict[str, Any]:
    """Return what the panel says of each point: the names once, then the values of each, None for what it lacks."""
    confirmed = {row.point: row for row in found.confirmed if row.complete}
    rows = [(row, _facts(row, confirmed.get(row.point))) for row in found.points]
    names = [name for name in dict.fromkeys(n for _, facts in rows for n in facts) if any(f.get(name) for _, f in rows)]
    return {
        "names": names,
        "rows": [
            [
                row.point,
                row.trial,
                row.status,
                ", ".join(map(one_line, row.flags)),
                [facts.get(name) or None for name in names],
            ]
            for row, facts in rows
        ],
    }


def _facts(row: PointRow, confirmed: ConfirmedRow | None) -> dict[str, str]:
    result = confirmed and (confirmed.robust_accuracy, confirmed.robust_accuracy_low, confirmed.robust_accuracy_high)
    found = {
        "robust accuracy": accuracy(row, "robust"),
        "confirmed, test split": interval(*result) if result else "",
        "clean accuracy": accuracy(row, "clean"),
        "measured with": f"{row.attack}, {NORMS.get(row.norm, row.norm)}, ε = {row.eps_text}",
        "images": f"{row.examples}, {row.split} split",
        "sparsity": f"{percent_sparsity(row.judged.sparsity)} %",
        "weights left": f"{row.nonzero} of {row.prunable}",
        "multiply-accumulates": f"{row.macs_effective} of {row.macs_dense}" if row.macs_effective is not None else "",
        "recipe": row.recipe or "",
        "model": row.model or "",
        **{path: _value(value) for path, value in row.own_params.items()},
        "epochs": f"{row.epochs_trained} trained, {row.epochs_shared} shared",
        "time": progress.duration(row.seconds),
        "seed": str(row.seed),
        "device": row.device,
        "weights sha256": row.weights_sha256[:16],
        **{name: number(value) for name, value in row.measured.metrics.items()},
    }
    return {one_line(name): one_line(text) for name, text in found.items()}


def _value(value: Any) -> str:
    """Write a setting as YAML does, except that numbers are rounded."""
    if isinstance(value, Mapping):
        return f"{{{_fields(value)}}}"
    return "null" if value is None else number(value)


def _overfitting(found: Gathered) -> Table | None:
    """Return by how much robust accuracy fell after its best epoch, in the trainings that measured it."""
    rows = []
    for trial, curves in found.curves.items():
        for curve in curves:
            if (best := search_charts.best_epoch(curve)) is not None:
                last = next(e for e in reversed(curve.epochs) if e.robust_accuracy is not None)
                top, end = best.robust_accuracy or 0.0, last.robust_accuracy or 0.0
                training = (str(trial), f"{curve.kind} {curve.phase}")
                epochs = f"{best.epoch - curve.first} of {curve.length}"
                fell = f"{100 * (top - end):.1f}"
                rows.append((*training, f"{100 * top:.1f}", epochs, f"{100 * end:.1f}", fell, str(curve.examples)))
    headings = ("trial", "training", "best robust (%)", "at epoch", "last robust (%)", "fell by (points)", "n")
    numeric = (True, False, *(True,) * 5)
    return Table("overfitting", headings, numeric, rows, [None] * len(rows)) if rows else None


def _flags(points: Sequence[PointRow], front: Sequence[PointRow]) -> list[tuple[str, str, int, int, str]]:
    """Return each flag with the status of its points, how many there are, how many rows of the front, and the first."""
    found, best = _by_flag(points), _by_flag(front)
    return [
        (one_line(flag), status, len(rows), len(best.get((flag, status), ())), _listed([row.point for row in rows]))
        for (flag, status), rows in sorted(found.items())
    ]


def _by_flag(rows: Sequence[PointRow]) -> dict[tuple[str, str], list[PointRow]]:
    found: dict[tuple[str, str], list[PointRow]] = {}
    for row in rows:
        for flag in row.flags or ((row.status,) if row.status != "ok" else ()):
            found.setdefault((flag, row.status), []).append(row)
    return found


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _failures(found: Gathered) -> list[tuple[str, int, str, str]]:
    by_kind: dict[str, list[Any]] = {}
    for trial in found.trials:
        if trial.failure is not None:
            by_kind.setdefault(trial.failure, []).append(trial)
    return [
        (one_line(kind), len(rows), _listed([str(row.trial) for row in rows]), one_line(rows[0].message or "")[:400])
        for kind, rows in sorted(by_kind.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _costs(found: Gathered) -> list[tuple[str, int, int, int, str]]:
    return [
        (state, cost.trials, cost.epochs, cost.shared, progress.duration(cost.seconds))
        for state, cost in sorted(found.costs.items())
    ]


def _protocol(found: Gathered) -> dict[str, str]:
    spec = found.spec
    protocol = spec.protocol
    images = Counter((row.examples, row.split) for row in found.points)
    measured = ", ".join(f"{examples} of the {split} split" for examples, split in images) or "none measured so far"
    return {
        "attack": ", ".join(sorted({f"{row.attack}, {NORMS.get(row.norm, row.norm)}" for row in found.points}))
        or protocol.attack.kind,
        "radius ε": f"{protocol.eps.text} in pixel units of [0, 1]",
        "images": measured,
        "seed of the attack": str(protocol.seed),
        "objectives": ", ".join(f"{name} ({direction})" for name, direction in spec.objectives.items()),
        "constraints": ", ".join(f"{name} {bound}" for name, bound in spec.constraints.items()) or "none",
        "attack in full": _fields(plain(protocol.attack)),
    }


def _fields(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {_value(value)}" for name, value in values.items())


def _environment(found: Gathered) -> dict[str, str]:
    spec = found.spec
    hosts = len(found.versions.get("host", ()))
    return {
        "data": _fields({k: v for k, v in plain(spec.data).items() if v not in (None, [], ())}),
        "fingerprint of the data": found.data_hash[:16],
        "model": _fields(plain(spec.model)),
        "recipe": spec.recipe.kind,
        "sampler": _fields(plain(spec.sampler)),
        "early stopping": spec.early_stopping.kind,
        "seed": str(spec.seed),
        "created": found.created,
        "machines": str(hosts) if hosts else "",
        **{name: ", ".join(values) for name, values in found.versions.items() if name != "host"},
        "notes on the data": "; ".join(found.data_notes),
    }
