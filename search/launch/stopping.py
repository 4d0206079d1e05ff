"""Early stopping of a study: its records, points and partial measurements, as its scheduler sees them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from search import objectives
from search.early_stopping.base import Measurement
from search.study.spec import StudySpec
from trainables.method.phases import EpochPhase, Inherit, Measure, Phase, Train
from trainables.metrics import KNOWN
from trainables.recipes.trial import TrialSpec
from trainables.store.records import Outcome, PartialMeasurement, Point, TrialRecord

ENQUEUED = "queued"
"""Marks the record of a trial whose parameters stand in the study file; such a trial runs to its end."""


@dataclass(frozen=True)
class MeasurementPlan:
    """The measurements of a trial: the sparsity at each, and the epochs up to it where no stage is stored."""

    sparsities: tuple[float, ...]
    epochs: tuple[int, ...]

    @classmethod
    def of(cls, phases: Iterable[Phase]) -> MeasurementPlan:
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
        """Return the part of all epochs that is left, after `share` of those from measurement `done` - 1 to `done`."""
        before = self.epochs[done - 1] if done else 0
        total = self.epochs[-1]
        return (total - before - share * (self.epochs[done] - before)) / total if total else 0.0


def _sparsity_after(phase: Phase, before: float) -> float:
    """Return how sparse a network is after a phase, as far as the recipe determines it."""
    if isinstance(phase, Inherit):
        return 0.0
    cut = phase.rewiring if isinstance(phase, Train) else phase
    sparsity: float = getattr(cut, "sparsity", before)
    return sparsity


class EarlyStopping:
    """Which running trials should stop.

    It is rebuilt from the records: an outcome has all that its trial measured.
    """

    def __init__(self, spec: StudySpec) -> None:
        """Start without a trial."""
        self._spec = spec
        self._on = spec.early_stopping.kind != "none"
        # In a deterministic study concurrent trials must not see each other: which of them is faster is chance.
        self._stopping = spec.early_stopping.build(tuple(spec.objectives), live=not spec.deterministic)
        self._plans: dict[int, MeasurementPlan] = {}
        self._known: dict[int, set[tuple[int, float]]] = {}
        self._hopeless: set[int] = set()

    def point(self, record: TrialRecord, point: Point) -> None:
        """Add a measured point of a running trial; one within a training came late, and says nothing of its end."""
        if point.epoch is None:
            self._take(record, point, point.measure, 1.0)

    def partial(self, record: TrialRecord, partial: PartialMeasurement) -> None:
        """Add a partial measurement of a running trial."""
        self._take(record, partial, partial.measures, partial.share)

    def stops(self, number: int) -> bool:
        """Return whether a running trial should stop; once true, it stays true until the trial ends."""
        return number in self._hopeless

    def end(self, record: TrialRecord, outcome: Outcome) -> None:
        """Add how a trial ended, and those of its measurements that were not added before."""
        if not self._on:
            return
        number = record.number
        known = self._known.pop(number, set())
        missed = [found for at, found in self._measurements(record, outcome) if at not in known]
        self._stopping.replay(number, missed, outcome.state)
        self._hopeless.discard(number)
        self._plans.pop(number, None)

    def _take(self, record: TrialRecord, measured: Point | PartialMeasurement, done: int, share: float) -> None:
        if (measurement := self._measurement(record, measured, done, share)) is None:
            return
        known = self._known.setdefault(record.number, set())
        if (done, share) in known:
            return
        known.add((done, share))
        if self._stopping.report(record.number, measurement) and not record.sampler.get(ENQUEUED):
            self._hopeless.add(record.number)

    def _measurements(self, record: TrialRecord, outcome: Outcome) -> Iterator[tuple[tuple[int, float], Measurement]]:
        """Yield the measurements of an ended trial in their order."""
        found: dict[tuple[int, float], Point | PartialMeasurement] = {
            (partial.measures, partial.share): partial for partial in outcome.rungs
        }
        found |= {(point.measure, 1.0): point for point in outcome.points if point.epoch is None}
        for at, measured in sorted(found.items(), key=lambda item: item[0]):
            if (measurement := self._measurement(record, measured, *at)) is not None:
                yield at, measurement

    def _measurement(
        self, record: TrialRecord, measured: Point | PartialMeasurement, done: int, share: float
    ) -> Measurement | None:
        """Return a measurement; None where the study stops nothing or it teaches nothing."""
        if not self._on or not objectives.trusted(measured, self._spec):
            return None
        plan = self._plan(record)
        violations = dict(zip(self._spec.constraints, objectives.violations(measured, self._spec), strict=True))
        return Measurement(
            resource=measured.epochs_trained if isinstance(measured, Point) else measured.resource,
            values=tuple(objectives.values(measured, self._spec)),
            sparsity=measured.sparsity,
            ahead=plan.sparsities[done + (share == 1) :],
            share=share,
            done=done,
            violation=max([0.0, *(violations[name] for name in violations if name not in KNOWN)]),
            left=plan.left(done, share),
            known_violation=max([0.0, *(violations[name] for name in violations if name in KNOWN)]),
        )

    def _plan(self, record: TrialRecord) -> MeasurementPlan:
        if record.number not in self._plans:
            self._plans[record.number] = MeasurementPlan.of(TrialSpec.model_validate(record.spec).phases())
        return self._plans[record.number]
