"""A study, read from its records: the read-only Python API."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from search import objectives
from search.objectives import pareto
from search.results import confirmed
from search.results import curves as training_curves
from search.results import table as tables
from search.results.confirmed import ConfirmedRow
from search.results.curves import Curve
from search.results.exporters.base import OF_PAPERS, What
from search.results.progress import Snapshot, snapshot
from search.results.table import PointRow, TrialRow
from search.store import catalogue, confirmations
from search.store.confirmations import DamagedConfirmation
from search.store.live import RunningTrial, driver_state
from search.store.records import Damaged, Records
from search.study.spec import StudySpec
from trainables.core.errors import ExitCode, RobustsearchError, SpecError
from trainables.store.stages import Stages
from trainables.store.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa

CLASS_NAMES = "robustsearch.class_names"
"""The key in the metadata of a table's schema, and so of a Parquet file, of the names of the classes, as JSON."""


@dataclass(frozen=True)
class Summary:
    """The progress of a study.

    Of the `planned` trials, `issued` = `complete + stopped + failed + running + waiting + damaged` were issued.
    `waiting` trials have no outcome and do not run: the launch starts them later or, if none runs, the next one does.
    `failures` counts failed trials by class. Units: `seconds` of trials' work, summed.
    """

    study: str
    planned: int
    issued: int
    complete: int
    stopped: int
    failed: int
    running: int
    waiting: int
    damaged: int
    points: int
    front: int
    hypervolume: float
    seconds: float
    failures: dict[str, int]
    driver: str | None


@dataclass(frozen=True)
class Answer:
    """What a study has found for its target: the sparsest `point` that reaches it, else the one that is `nearest`."""

    target: dict[str, str]
    point: PointRow | None
    nearest: PointRow | None


@dataclass(frozen=True)
class Ending:
    """How a launch ended: the exit code of the command, and its last message."""

    exit_code: ExitCode
    message: str


class Study:
    """A study in its storage, read-only. Every call reads the records again.

    Example::

        from search import Study

        study = Study.open("runs/quickstart")
        for point in study.front():
            print(point.point, point.sparsity, point.robust_accuracy, point.params)
        study.table("points").to_pandas().plot.scatter("sparsity", "robust_accuracy")
    """

    def __init__(self, records: Records, ending: Ending | None = None) -> None:
        """Wrap opened records; `Study.open` opens them, `search.launch` passes how it ended."""
        self.records = records
        self.ending = ending
        self._rows: tuple[int, list[PointRow]] | None = None
        self._confirmed: tuple[tuple[Any, ...], list[ConfirmedRow]] | None = None

    @classmethod
    def open(cls, location: str) -> Self:
        """Open the study in a directory, such as `runs/quickstart`, or at a URI such as `s3://bucket/quickstart`.

        Raises:
            StorageError: there is no study, or it cannot be read.
            SpecError: its `study.yaml` is damaged.
        """
        return cls(Records.open(Storage(str(location))))

    def __repr__(self) -> str:
        return f"Study({self.records.storage.location!r})"

    @property
    def spec(self) -> StudySpec:
        """The study file, resolved."""
        return self.records.spec

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.spec.name)

    def trials(self) -> list[TrialRow]:
        """Return every issued trial, in order of number."""
        return tables.trial_rows(self.records.trials())

    def points(self) -> list[PointRow]:
        """Return every point of the complete trials, in order of trial and measurement."""
        trials = self.records.trials()
        ended = sum(outcome is not None for _, outcome in trials)
        if self._rows is None or self._rows[0] != ended:
            self._rows = ended, tables.point_rows(self.spec, trials)
        return list(self._rows[1])

    def front(self) -> list[PointRow]:
        """Return the front, from dense to sparse: the valid, feasible points that no other such point dominates.

        A network that several trials share (they have its stage in common) is listed once, under the first. So is a
        point of several replicates, which are judged by their means, and is shared if the networks of all of them are.
        """
        front = [row for row in self.configurations() if row.on_front]
        return sorted(front, key=lambda row: (row.judged.sparsity, row.trial, row.measured.measure))

    def configurations(self) -> list[PointRow]:
        """Return every point once, in order of trial and measurement: the first of those that replicates share.

        Of configurations that share it, those whose replicates have all ended, which alone are compared, come first.
        Status and flags are those of all replicates.
        """
        first: dict[tuple[Any, ...], PointRow] = {}
        for row in self.points():
            if row.settled > first.setdefault(row.network, row).settled:
                first[row.network] = row
        return [row.for_all_replicates() for row in first.values()]

    def settled(self) -> list[PointRow]:
        """Return every point once that compares: those of which no replicate is missing or was stopped early."""
        return [row for row in self.configurations() if row.settled]

    def infeasible(self, limit: int | None = None) -> list[PointRow]:
        """Return the valid points that violate a constraint, those that violate least first."""
        rows = [row for row in self.settled() if not row.feasible and objectives.valid(row.judged, self.spec)]
        return sorted(rows, key=self._violation)[:limit]

    def knee(self) -> PointRow | None:
        """Return the knee of the front, where there is one: beyond it, gains in one objective cost most of another."""
        front = self.front()
        at = pareto.knee([objectives.values(row.judged, self.spec) for row in front])
        return None if at is None else front[at]

    def answer(self) -> Answer | None:
        """Return the sparsest trusted, feasible point that reaches the study's target; None where it has no target."""
        if not self.spec.target:
            return None
        rows = [row for row in self.settled() if row.feasible and objectives.trusted(row.judged, self.spec)]
        missed = {
            row.point: [max(0.0, gap) for gap in objectives.target_violations(row.judged, self.spec)] for row in rows
        }
        reached = [row for row in rows if not any(missed[row.point])]
        point = max(reached, key=lambda row: (row.judged.sparsity, row.judged.robust_accuracy), default=None)
        nearest = min(rows, key=lambda row: (sum(missed[row.point]), -row.judged.sparsity), default=None)
        return Answer(dict(self.spec.target), point, None if point else nearest)

    def hypervolume(self) -> float:
        """Return the share of the objective space that the front dominates, in [0, 1]; the reference point is fixed."""
        return pareto.hypervolume([objectives.values(row.judged, self.spec) for row in self.front()])

    def confirmed(self, examples: int | str | None = None) -> list[ConfirmedRow]:
        """Return the confirmed points, from dense to sparse, as `robustsearch confirm` measured them on the test split.

        `examples` chooses a set of examples where there are several: a number N for the first N, `all` for the
        whole split; by default the largest.
        """
        points, results = self.points(), confirmations.read(self.records.storage).found
        key = (len(points), len(results), examples)
        if self._confirmed is None or self._confirmed[0] != key:
            self._confirmed = key, confirmed.rows(self.spec, points, results, examples)
        return list(self._confirmed[1])

    def confirmed_front(self, examples: int | str | None = None) -> list[ConfirmedRow]:
        """Return the confirmed points that no other confirmed point dominates, from dense to sparse."""
        return [row for row in self.confirmed(examples) if row.on_front]

    def confirmed_points(self) -> int:
        """Count the points of which there are results of `robustsearch confirm`; those of all replicates are one."""
        ids = {result.point for result in confirmations.read(self.records.storage).found}
        if not ids or not self.spec.seeds:
            return len(ids)
        return len({row.network for row in self.points() if row.point in ids})

    def damaged_confirmations(self) -> list[DamagedConfirmation]:
        """Return the results of `robustsearch confirm` that cannot be read."""
        return list(confirmations.read(self.records.storage).damaged)

    def damaged(self) -> list[Damaged]:
        """Return the records that cannot be read."""
        return self.records.damaged()

    def summary(self, progress: Snapshot | None = None) -> Summary:
        """Count trials by state, points, and time; `progress` is what `progress()` returned a moment ago."""
        now = progress or self.progress()
        outcomes = [outcome for _, outcome in self.records.trials() if outcome is not None]
        return Summary(
            study=self.name,
            planned=now.target,
            issued=now.issued or 0,
            complete=now.complete,
            stopped=now.stopped,
            failed=now.failed,
            running=now.running,
            waiting=now.waiting,
            damaged=now.damaged,
            points=sum(len(outcome.points) for outcome in outcomes if outcome.state == "complete"),
            front=now.front,
            hypervolume=now.hypervolume,
            seconds=sum(outcome.seconds for outcome in outcomes),
            failures=dict(Counter(outcome.failure.kind for outcome in outcomes if outcome.failure)),
            driver=now.driver,
        )

    def progress(self) -> Snapshot:
        """Return how far the study is: by the records, and while a launch runs, by what its driver knows."""
        state = driver_state(self.records.storage)
        return snapshot(self.records, state, [row.judged for row in self.front()], self.hypervolume())

    def running(self) -> list[RunningTrial]:
        """Return the trials that run, in order of number, as their workers reported; none where no launch runs.

        The driver writes what it knows about once a second, on an object store every 15 seconds.
        """
        return list(self.progress().trials)

    def table(self, what: What = "points", *, own_params: bool = False, examples: int | str | None = None) -> pa.Table:
        """Return one of a study's tables as an Arrow table with documented columns.

        `front`: the front; `points`: every measured network; `configurations`: those of replicates once, for their
        means; `trials`; `confirmed`: what `robustsearch confirm` measured; `paper` and `claims`: the table of a paper
        that the study fills, and what the paper claims of it.

        A point has the parameters of its trial, or, with `own_params`, those that it would be the last measurement for.
        `examples` chooses the set of examples of confirmed points, as in `confirmed`.
        The metadata of the schema of points hold the names of the classes, where the study has them.
        """
        if what in OF_PAPERS:
            from search.results.paper import cells, claims

            return cells.paper_table(self) if what == "paper" else claims.claims_table(self)
        if what == "trials":
            return tables.table(TrialRow, self.trials(), self.spec.space)
        kind, rows = self._rows_of(what, examples)
        if own_params:
            rows = [replace(row, params=row.own_params) for row in rows]
        table = tables.table(kind, rows, self.spec.space)
        names = self.class_names
        return table.replace_schema_metadata({CLASS_NAMES: json.dumps(names)}) if names else table

    def curves(self, trial: int) -> list[Curve]:
        """Return the training curves of a trial, in the order of its phases.

        Trainings whose stage was dropped, is not complete, or was computed by a version before curves were kept have
        none.

        Raises:
            SpecError: there is no such trial.
        """
        for record, _ in self.records.trials():
            if record.number == trial:
                return training_curves.curves(Stages(self.records.storage), record)
        named = catalogue.arguments(self.records.storage)
        raise SpecError(f"{self.name} has no trial {trial}; `robustsearch export {named} --what trials` lists them")

    def _rows_of(
        self, what: What, examples: int | str | None
    ) -> tuple[type[PointRow | ConfirmedRow], Sequence[PointRow | ConfirmedRow]]:
        if what == "confirmed":
            return ConfirmedRow, self.confirmed(examples)
        rows = {"front": self.front, "configurations": self.configurations}.get(what, self.points)
        return PointRow, rows()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the networks' outputs; none in studies of before they were kept."""
        return self.records.fingerprint.class_names

    def _violation(self, row: PointRow) -> float:
        return sum(max(0.0, excess) for excess in objectives.violations(row.judged, self.spec))


def open_study(storage: Storage, name: str) -> Study:
    """Open an existing study of a storage, read-only.

    Raises:
        SpecError: `name` is not a valid name, there is no such study, or its `study.yaml` is damaged.
        StorageError: the storage cannot be read.
    """
    return Study(Records.open(catalogue.study_storage(storage, name)))


def summaries(storage: Storage) -> tuple[list[Summary], dict[str, str]]:
    """Return the progress of each study of a storage, and by name why some cannot be opened."""
    found, broken = [], {}
    for name in catalogue.names(storage):
        try:
            found.append(open_study(storage, name).summary())
        except RobustsearchError as error:
            broken[name] = str(error)
    return found, broken
