"""Early stopping of a study: what its scheduler is told of records, points and looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from search import objectives
from search.early_stopping.base import Measurement
from search.study.spec import StudySpec
from trainables.method.phases import EpochPhase, Inherit, Measure, Phase, Train
from trainables.metrics import KNOWN
from trainables.recipes import RECIPES
from trainables.store.records import Outcome, PartialMeasurement, Point, TrialRecord

ENQUEUED = "queued"
"""What a trial's record says of its parameters where the study file gave them; such a trial is run to its end."""


@dataclass(frozen=True)
class Course:
    """The way of a trial: the sparsity of each measurement, and the epochs trained up to it where nothing is stored."""

    sparsities: tuple[float, ...]
    epochs: tuple[int, ...]

    @classmethod
    def of(cls, phases: Iterable[Phase]) -> Course:
        """Read a recipe's phases."""
        sparsity, epochs = 0.0, 0
        marks: list[tuple[float, int]] = []
        for phase in phases:
            sparsity = _sparsity_after(phase, sparsity)
            if isinstance(phase, EpochPhase):
                epochs += phase.length
            elif isinstance(phase, Measure):
                marks.append((sparsity, epochs))
        return cls(tuple(sparsity for sparsity, _ in marks), tuple(epochs for _, epochs in marks))

    def left(self, done: int, share: float) -> float:
        """Return the part of all epochs that is to come, so far on the way to the measurement after `done` others."""
        before = self.epochs[done - 1] if done else 0
        total = self.epochs[-1]
        return (total - before - share * (self.epochs[done] - before)) / total if total else 0.0


def _sparsity_after(phase: Phase, before: float) -> float:
    """Return how sparse a network is after a phase, as far as a recipe says that beforehand."""
    if isinstance(phase, Inherit):
        return 0.0
    cut = phase.rewiring if isinstance(phase, Train) else phase
    sparsity: float = getattr(cut, "sparsity", before)
    return sparsity


class EarlyStopping:
    """Which running trials should stop.

    It is rebuilt from the records: an outcome holds all that its trial reported.
    """

    def __init__(self, spec: StudySpec) -> None:
        """Begin without a trial."""
        self._spec = spec
        self._on = spec.early_stopping.kind != "none"
        # In a deterministic study trials side by side must not see each other: which of them is faster is chance.
        self._stopping = spec.early_stopping.build(tuple(spec.objectives), live=not spec.deterministic)
        self._courses: dict[int, Course] = {}
        self._told: dict[int, set[tuple[int, float]]] = {}
        self._hopeless: set[int] = set()

    def point(self, record: TrialRecord, point: Point) -> None:
        """Take in a measured point of a running trial."""
        self._take(record, point, point.measure, 1.0)

    def rung(self, record: TrialRecord, rung: PartialMeasurement) -> None:
        """Take in a look at a running trial's training."""
        self._take(record, rung, rung.measures, rung.share)

    def stops(self, number: int) -> bool:
        """Say whether a running trial is to stop; once said, it stays said until the trial ends."""
        return number in self._hopeless

    def end(self, record: TrialRecord, outcome: Outcome) -> None:
        """Take in how a trial ended, and what it had reported and was not passed on before."""
        if not self._on:
            return
        number = record.number
        known = self._told.pop(number, set())
        missed = [report for place, report in self._reports(record, outcome) if place not in known]
        self._stopping.replay(number, missed, outcome.state)
        self._hopeless.discard(number)
        self._courses.pop(number, None)

    def _take(self, record: TrialRecord, measured: Point | PartialMeasurement, done: int, share: float) -> None:
        if (report := self._report(record, measured, done, share)) is None:
            return
        told = self._told.setdefault(record.number, set())
        if (done, share) in told:
            return
        told.add((done, share))
        if self._stopping.report(record.number, report) and not record.sampler.get(ENQUEUED):
            self._hopeless.add(record.number)

    def _reports(self, record: TrialRecord, outcome: Outcome) -> Iterator[tuple[tuple[int, float], Measurement]]:
        """Yield what a trial reported, in the order in which it did."""
        shown: dict[tuple[int, float], Point | PartialMeasurement] = {
            (rung.measures, rung.share): rung for rung in outcome.rungs
        }
        shown |= {(point.measure, 1.0): point for point in outcome.points}
        for place, found in sorted(shown.items(), key=lambda item: item[0]):
            if (report := self._report(record, found, *place)) is not None:
                yield place, report

    def _report(
        self, record: TrialRecord, measured: Point | PartialMeasurement, done: int, share: float
    ) -> Measurement | None:
        """Return a report; None where the study stops nothing or the measurement cannot be compared."""
        if not self._on or not objectives.valid(measured, self._spec):
            return None
        course = self._course(record)
        missed = zip(self._spec.constraints, objectives.violations(measured, self._spec), strict=True)
        return Measurement(
            resource=measured.epochs_trained if isinstance(measured, Point) else measured.resource,
            values=tuple(objectives.values(measured, self._spec)),
            sparsity=measured.sparsity,
            ahead=course.sparsities[done + (share == 1) :],
            share=share,
            done=done,
            violation=max([0.0, *(violation for name, violation in missed if name not in KNOWN)]),
            left=course.left(done, share),
        )

    def _course(self, record: TrialRecord) -> Course:
        if record.number not in self._courses:
            self._courses[record.number] = Course.of(RECIPES.parse(record.spec["recipe"]).phases())
        return self._courses[record.number]
