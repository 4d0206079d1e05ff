"""The progress of a study, as one value that the terminal and `--json` both show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from search.files.messages import counted
from search.results.exporters.base import percent_sparsity
from search.results.progress import on_front
from search.store.confirmations import DamagedConfirmation
from search.store.records import Damaged
from trainables.models.share import Share
from trainables.store.flags import FLAGS, questioned

if TYPE_CHECKING:
    from search.results.progress import Snapshot
    from search.results.study import Answer, Study, Summary
    from search.results.table import PointRow, TrialRow
    from trainables.store.records import Point

SPARSE = 0.9
"""The sparsity from which a point counts as sparse."""


@dataclass(frozen=True)
class Failed:
    """The failed trials of one class, with the message of the first."""

    kind: str
    trials: int
    message: str


@dataclass(frozen=True)
class Flagged:
    """How many points have a flag, and how many rows of the front: points, or `means` over the seeds of several."""

    flag: str
    points: int
    on_front: int
    severity: str
    means: bool = False

    def __str__(self) -> str:
        best = f", {on_front(self.on_front, means=self.means)}" if self.on_front else ""
        return f"{self.flag} ({self.severity}): {counted(self.points, 'point')}{best}"


@dataclass(frozen=True)
class Status:
    """A study's state.

    `best` maps what a point is best at to the point, each taken from the front. Epochs are those of the
    trials that ended: trained by them, and taken over from stages that others had stored. `first_issued` and
    `last_finished` are ISO 8601 in UTC.
    """

    summary: Summary
    storage: str
    best: dict[str, PointRow]
    epochs_trained: int
    epochs_shared: int
    first_issued: str | None
    last_finished: str | None
    failures: tuple[Failed, ...]
    damaged: tuple[Damaged, ...]
    confirmed: int = 0
    damaged_confirmations: tuple[DamagedConfirmation, ...] = ()
    answer: Answer | None = None
    networks: tuple[Share, ...] = ()
    flags: tuple[Flagged, ...] = ()
    progress: Snapshot | None = None

    def plain(self) -> dict[str, Any]:
        """Return the status as JSON-able data."""
        return {
            **asdict(self.summary),
            "storage": self.storage,
            "networks": [share.plain() for share in self.networks],
            "target": _answered(self.answer),
            "best": {name: _brief(row) for name, row in self.best.items()},
            "epochs_trained": self.epochs_trained,
            "epochs_shared": self.epochs_shared,
            "first_issued": self.first_issued,
            "last_finished": self.last_finished,
            "failed_trials": [asdict(failed) for failed in self.failures],
            "flags": [asdict(flagged) for flagged in self.flags],
            "damaged_records": [asdict(damaged) for damaged in self.damaged],
            "confirmed": self.confirmed,
            "damaged_confirmations": [asdict(damaged) for damaged in self.damaged_confirmations],
            "running_trials": [asdict(trial) for trial in self.progress.trials] if self.progress else [],
            "trials_per_hour": self.progress.rate if self.progress else None,
            "seconds_left": self.progress.remaining if self.progress else None,
        }


def status(study: Study) -> Status:
    """Read a study's state from its records."""
    now = study.progress()
    trials, front = study.trials(), study.front()
    ends = [outcome for _, outcome in study.records.trials() if outcome is not None and outcome.points]
    return Status(
        summary=study.summary(now),
        storage=study.records.storage.location,
        best=best_of(front, study.knee()),
        epochs_trained=sum(end.points[-1].epochs_trained for end in ends),
        epochs_shared=sum(end.points[-1].epochs_shared for end in ends),
        first_issued=min((trial.issued for trial in trials), default=None),
        last_finished=max((trial.finished for trial in trials if trial.finished), default=None),
        failures=_failures(trials),
        damaged=tuple(study.damaged()),
        confirmed=study.confirmed_points(),
        damaged_confirmations=tuple(study.damaged_confirmations()),
        answer=study.answer(),
        networks=_networks(study),
        flags=_flagged(study.points(), front),
        progress=now,
    )


def _flagged(points: list[PointRow], front: list[PointRow]) -> tuple[Flagged, ...]:
    """Return the flags that points have, those of the most points first."""
    points_of, front_of = (Counter(flag for row in rows for flag in row.flags) for rows in (points, front))
    means = any(row.configuration is not None for row in front)
    return tuple(
        Flagged(flag, count, front_of[flag], known.severity if (known := FLAGS.get(flag)) else "warn", means)
        for flag, count in points_of.most_common()
    )


def _networks(study: Study) -> tuple[Share, ...]:
    """Return the networks that points were measured of, and what share of their parameters is prunable."""
    found: dict[tuple[str, int, int, int | None], None] = {}
    for trial, outcome in study.records.trials():
        model = trial.spec["model"]
        for point in outcome.points if outcome is not None else ():
            if point.parameters is not None:
                found[
                    str(model.get("name", model["kind"])), point.prunable, point.parameters, point.weights_outside
                ] = None
    return tuple(Share(name, cut, every, {}, outside) for name, cut, every, outside in found)


NEAREST = 5
"""How many points are listed where no point is feasible."""


def front_of(study: Study) -> dict[str, Any]:
    """Return the front with its knee as JSON-able data; where it is empty, the points that violate least."""
    rows = study.table("front").to_pylist()
    nearest = [] if rows else study.infeasible(NEAREST)
    knee = study.knee()
    return {
        "study": study.name,
        "front": rows,
        "knee": knee.point if knee else None,
        "target": _answered(study.answer()),
        "least_violating": [_brief(row) for row in nearest],
    }


def _answered(answer: Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    found = {"point": answer.point, "nearest": answer.nearest}
    return {"bounds": answer.target, **{name: _brief(row) if row else None for name, row in found.items()}}


def said(answer: Answer) -> str:
    """Return in a line what was found for a target."""
    target = ", ".join(f"{measure} {bound}" for measure, bound in answer.target.items())
    row = answer.point or answer.nearest
    if row is None:
        return f"target {target}: no feasible point yet"
    judged = row.judged
    shown = f"{row.point}, {percent_sparsity(judged.sparsity)} % sparse, {100 * judged.robust_accuracy:.1f} % robust"
    shown = f"{shown}, {100 * judged.clean_accuracy:.1f} % clean"
    if row.configuration is not None:
        shown += f" (means over {counted(row.seeds, 'seed')})"
    return f"target {target}: {shown}" if answer.point else f"target {target}: no point reaches it; nearest is {shown}"


def best_of(front: list[PointRow], knee: PointRow | None) -> dict[str, PointRow]:
    """Return the points that are best at something, by what they are best at, of those that no flag questions.

    Of equally good ones, it is the sparsest.
    """
    front = [row for row in front if not questioned(row.flags)]
    wanted: dict[str, tuple[list[PointRow], Callable[[Point], float]]] = {
        "most robust": (front, lambda point: point.robust_accuracy),
        "most accurate": (front, lambda point: point.clean_accuracy),
        f"most robust at {100 * SPARSE:.0f} % sparsity or more": (
            [row for row in front if row.judged.sparsity >= SPARSE],
            lambda point: point.robust_accuracy,
        ),
        "sparsest": (front, lambda point: point.sparsity),
    }
    best = {
        name: max(rows, key=lambda row: (value(row.judged), row.judged.sparsity))
        for name, (rows, value) in wanted.items()
        if rows
    }
    return {**best, **({"knee of the front": knee} if knee and not questioned(knee.flags) else {})}


def _brief(row: PointRow) -> dict[str, Any]:
    names = ["point", "robust_accuracy", "robust_accuracy_low", "robust_accuracy_high", "clean_accuracy"]
    if row.configuration is not None:
        names += [f"{measure}_{end}" for measure in ("robust_accuracy", "clean_accuracy") for end in ("mean", "sd")]
        names.append("seeds")
    found = {name: getattr(row, name) for name in names} | {"sparsity": row.judged.sparsity}
    return {**found, "status": row.status, "flags": list(row.flags), "params": dict(row.params)}


def _failures(trials: list[TrialRow]) -> tuple[Failed, ...]:
    found: dict[str, list[TrialRow]] = {}
    for trial in trials:
        if trial.failure is not None:
            found.setdefault(trial.failure, []).append(trial)
    listed = [Failed(kind, len(rows), rows[0].message or "") for kind, rows in found.items()]
    return tuple(sorted(listed, key=lambda failed: (-failed.trials, failed.kind)))
