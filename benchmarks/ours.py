"""Our own search in the simulator: the real driver over real records, with each part to switch off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from curves import Curves, Epoch
from simulator import Ledger, Work

from search.early_stopping.base import Off, Scheduler
from search.launch.driver import Driver
from search.launch.queue import Order
from search.samplers import Sampler
from search.space.parameters import SPARSITY_PATH
from search.store.records import Records
from search.store.study_yaml import Fingerprint
from trainables.method.phases import Measure, Train
from trainables.recipes import trial as trial_spec
from trainables.recipes.trial import KeyedPhase, TrialSpec
from trainables.store.records import Outcome, PartialMeasurement, Point, TrialRecord
from trainables.store.storage import Storage

DATA_HASH = "of a table"
PRUNABLE = 10**6
WHEN = "2030-01-02T03:04:05+00:00"


@dataclass(frozen=True)
class Parts:
    """What of ours is at work.

    `sharing`: stages are stored and reused. `points`: the sampler observes all points, not only a trial's
    last one. `planning`: a trial whose stage another trains waits, and another goes first; without it, and
    without the lock that workers hold, both train it. `early_stopping`: as a study's.
    """

    sampler: Sampler
    sharing: bool = True
    points: bool = True
    planning: bool = True
    early_stopping: Scheduler = field(default_factory=Off)


@dataclass
class Store:
    """The stages that are stored, with their snapshots."""

    snapshots_of: dict[str, set[int]] = field(default_factory=dict)

    def has(self, key: str, snapshots: Iterable[int]) -> bool:
        """Return whether a stage is stored with these snapshots."""
        return key in self.snapshots_of and self.snapshots_of[key].issuperset(snapshots)

    def add(self, key: str, snapshots: Iterable[int]) -> None:
        """Store a stage."""
        self.snapshots_of.setdefault(key, set()).update(snapshots)


class Unplanned(Order):
    """The order in which trials were issued."""

    def take(self) -> TrialRecord | None:
        """Start the trial that has waited longest, whatever others train."""
        number = min(self._waiting, default=None)
        return None if number is None else self._waiting.pop(number)


class Ours:
    """One launch of a study whose outcomes are in a table."""

    def __init__(
        self, curves: Curves, ledger: Ledger, parts: Parts, seed: int, storage: Storage, workers: int, trials: int
    ) -> None:
        """Create the study in an empty storage."""
        self.curves, self.ledger, self.parts = curves, ledger, parts
        budget = curves.spec.budget.model_copy(update={"trials": trials})
        choices = {"sampler": parts.sampler, "early_stopping": parts.early_stopping}
        spec = curves.spec.model_copy(update={"seed": seed, "budget": budget, **choices})
        shape = (1, 8, 8)
        self._records = Records.create(storage, spec, Fingerprint(data_hash=DATA_HASH, shape=shape, classes=10))
        self._driver = Driver(self._records, ahead=workers)
        if not (parts.planning and parts.sharing):
            self._driver._order = Unplanned()
        if not parts.sharing:
            # Nor may the sampler count on stages that are stored.
            self._driver._forecasts.issue = lambda record: None  # type: ignore[method-assign]
        self._store = Store()

    def next(self) -> Work | None:
        """Issue a trial."""
        record = self._driver.next()
        return None if record is None else self._work(record)

    def _work(self, record: TrialRecord) -> Work:
        chain = self.curves.chain(record.params)
        end = chain[self.curves.rungs.index(record.params[SPARSITY_PATH]) + 1][-1]
        phases = trial_spec.keyed_phases(TrialSpec.model_validate(record.spec), DATA_HASH)
        store = self._store if self.parts.sharing else Store()
        points: list[Point] = []
        trained = shared = trainings = 0
        for index, step in enumerate(phases):
            if isinstance(step.phase, Train):
                epochs = step.phase.epochs - step.phase.start
                if store.has(step.key, step.phase.snapshots):
                    shared += epochs
                else:
                    for done, partial in self._partials(step.phase, chain[trainings], trained, len(points)):
                        yield done
                        if partial is not None:
                            self._driver.on_partial(record.number, partial)
                            if self._driver.stops(record.number):
                                self._driver.on_end(record.number, None)
                                return
                    trained += epochs
                    store.add(step.key, step.phase.snapshots)
                trainings += 1
            elif isinstance(step.phase, Measure):
                epoch = chain[trainings - 1][-1]
                points.append(_point(step, len(points), epoch, self.curves, trained, shared))
                if trainings > 1:
                    self.ledger.measured(epoch.values, last=epoch is end)
                if self.parts.points:
                    self._driver.on_point(record.number, points[-1])
                    if epoch is not end and self._driver.stops(record.number):
                        self._driver.on_end(record.number, None)
                        return
            self._driver.on_progress(record.number, index + 1)
        self._end(record, points if self.parts.points else [points[-1].model_copy(update={"measure": 0})])

    def _partials(
        self, phase: Train, curve: tuple[Epoch, ...], before: int, measures: int
    ) -> Iterator[tuple[int, PartialMeasurement | None]]:
        """Yield the segments between partial measurements: the epochs to train, and the measurement at their end."""
        rungs = self.parts.early_stopping.partial_schedule()
        length, last = phase.epochs - phase.start, 0
        for done in range(1, length):
            if rungs is not None and rungs.due(phase, phase.start + done, before + done):
                yield done - last, _partial(curve[done - 1], before + done, done / length, measures)
                last = done
        yield length - last, None

    def _end(self, record: TrialRecord, points: list[Point]) -> None:
        outcome = Outcome(
            number=record.number,
            state="complete",
            points=tuple(points),
            started=WHEN,
            finished=WHEN,
            seconds=float(points[-1].epochs_trained),
        )
        self._records.write_outcome(outcome)
        self._driver.on_end(record.number, None)


def _partial(epoch: Epoch, resource: int, share: float, measures: int) -> PartialMeasurement:
    """Return an epoch of a training as a partial measurement, with the cheap accuracies of the table."""
    nonzero = round((1 - epoch.sparsity) * PRUNABLE)
    return PartialMeasurement(
        resource=resource,
        share=share,
        measures=measures,
        robust_accuracy=epoch.cheap_robust,
        clean_accuracy=epoch.cheap_clean,
        examples=100,
        attack="PGD-5",
        sparsity=1 - nonzero / PRUNABLE,
        nonzero=nonzero,
        prunable=PRUNABLE,
    )


def _point(step: KeyedPhase, measure: int, epoch: Epoch, curves: Curves, trained: int, shared: int) -> Point:
    """Return a network of the table as a trial's point."""
    assert isinstance(step.phase, Measure)
    assert step.parent is not None
    nonzero = round((1 - epoch.sparsity) * PRUNABLE)
    protocol, examples = curves.spec.protocol, curves.examples
    robust, clean = (round(share * examples) for share in (epoch.robust, epoch.clean))
    about: dict[str, Any] = {"eps": float(protocol.eps), "eps_text": protocol.eps.text, "device": "table"}
    about |= {"attack": protocol.attack.label, "norm": protocol.attack.norm}
    about |= {"flags": () if epoch.status == "ok" else ("table",)}
    return Point(
        measure=measure,
        key=step.key,
        stage=step.parent,
        robust_accuracy=robust / examples,
        clean_accuracy=clean / examples,
        robust_correct=robust,
        clean_correct=clean,
        examples=examples,
        sparsity=1 - nonzero / PRUNABLE,
        nonzero=nonzero,
        prunable=PRUNABLE,
        status=epoch.status,
        epochs_trained=trained,
        epochs_shared=shared,
        seconds=0.0,
        weights_sha256=step.key,
        code_version="table",
        started=WHEN,
        finished=WHEN,
        stands_for=step.phase.stands_for,
        **about,
    )
