"""Run one trial: its phases in order, from whatever is stored already."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from trainables import models
from trainables.core.errors import StageLost
from trainables.core.rng import derive, generator
from trainables.data.tensors import TrainingData
from trainables.engine.epoch import Epoch
from trainables.engine.imitate import imitate
from trainables.engine.inherit import inherit
from trainables.engine.train import train
from trainables.measure.evaluate import exact
from trainables.method.partial import PartialSchedule
from trainables.method.phases import (
    EpochPhase,
    Imitate,
    Inherit,
    Init,
    Measure,
    Phase,
    Prune,
    Rewind,
    Snapshot,
    Threshold,
    Train,
)
from trainables.method.screening import Screen
from trainables.metrics.base import Trainings
from trainables.models.graph.channels import Wiring
from trainables.models.isolation import isolated
from trainables.pruning.cut import below, prune
from trainables.pruning.network import Network
from trainables.recipes.trial import KeyedPhase, TrialSpec, keyed_phases
from trainables.store import curves
from trainables.store.curves import EpochValues, TrainingCurve
from trainables.store.lease import LeaseHeld
from trainables.store.records import PartialMeasurement, Point
from trainables.store.stages import Stage, Stages
from trainables.store.state import State, Tensors
from trainables.worker.missing import compared_trainings, missing, rewind_source, stored_snapshots
from trainables.worker.points import Measurements
from trainables.worker.progress import Progress

WAIT_SECONDS = 0.2
"""The pause between two checks whether another process has stored a stage."""

SAVE_SHARE = 0.02
"""The share of a training's time that may go into saving its progress."""
FIRST_SAVE_SECONDS = 0.5
"""Before this, nothing that could be lost is worth a save."""

Work = Callable[..., Iterator[Epoch]]
"""What trains the epochs of a phase: called as `train` is."""


@dataclass
class Run:
    """One running trial on one device.

    `progress()` yields after every epoch and every measured point, and ends when the trial is complete. A stage that
    is stored is not computed again; a training that was interrupted resumes after its last saved epoch; one that
    another process is computing is waited for, which planning avoids. An epoch is saved when `checkpoint_seconds`
    have passed since the last save, or sooner where saves are cheap: they take at most `SAVE_SHARE` of the time.
    Partial measurements, due by `partial_schedule`, change no weight and no key. `screen` decides which points are
    measured cheaply and no more.
    """

    trial: TrialSpec
    data: TrainingData
    stages: Stages
    number: int
    study: str
    device: torch.device
    checkpoint_seconds: float = 30.0
    partial_schedule: PartialSchedule | None = None
    screen: Screen | None = None
    _model: nn.Module = field(init=False)
    _measurements: Measurements = field(init=False)
    _phases: tuple[KeyedPhase, ...] = field(init=False)
    _trained: int = field(default=0, init=False)
    _shared: int = field(default=0, init=False)
    _last_shared: bool = field(default=False, init=False)
    _state: State | None = field(default=None, init=False)
    _state_key: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self._phases = keyed_phases(self.trial, self.data.fingerprint)
        self._model = self.network()
        self._measurements = Measurements(
            self._model,
            self.trial.protocol,
            self.data.validation,
            self.stages,
            self.device,
            self.partial_schedule,
            self.screen,
            origin=lambda: State.of(self.network()),
            trainings=self._trainings,
        )

    def network(self) -> nn.Module:
        """Build the trial's network anew."""
        return self._build(self.trial.seed)

    def progress(self) -> Generator[Progress, None, None]:
        """Work through the phases.

        Raises:
            Diverged, SpecError, StorageError: the trial cannot be completed.
            StageLost: a stored stage is damaged; another attempt computes it again.
        """
        measures = 0
        last_point = time.monotonic()
        stored = self._measurements.stored
        follows = self.trial.protocol.follows
        left = missing(self._phases, self._stored, lambda keyed: stored(keyed) is not None, follows)
        for index, keyed in enumerate(self._phases):
            if isinstance(keyed.phase, Measure):
                counts = {"measure": measures, **self._epochs(keyed.phase, index), "epoch": keyed.phase.epoch}
                state = partial(self._load, keyed.parent)
                named = {**counts, "stands_for": keyed.phase.stands_for}
                point = self._measurements.point(keyed, state, last_point, **named)
                measures += 1
                last_point = time.monotonic()
                yield replace(self._progress(keyed.phase, index + 1, point=point), stored=keyed.key not in left)
                continue
            if isinstance(keyed.phase, EpochPhase) and keyed.key in left:
                yield from self._train_or_wait(keyed.phase, keyed, index, measures)
            elif keyed.key in left:
                for epoch in self._compute(keyed.phase, keyed):
                    yield self._progress(keyed.phase, index, epoch=epoch)
            elif isinstance(keyed.phase, EpochPhase):
                before = self._trained
                self._count(keyed.phase, self.stages.find(keyed.key))
                if self._trained > before:
                    for found in self._measurements.stored_partials(keyed.phase, keyed, before, measures):
                        yield self._progress(keyed.phase, index, partial=found)
            yield self._progress(keyed.phase, index + 1)

    def _stored(self, keyed: KeyedPhase, snapshots: Iterable[int]) -> bool:
        # Only trainings are worth a search of other studies: all else is computed in a moment.
        find = self.stages.find_anywhere if isinstance(keyed.phase, EpochPhase) else self.stages.find
        return find(keyed.key, snapshots) is not None

    def _train_or_wait(self, phase: EpochPhase, keyed: KeyedPhase, index: int, measures: int) -> Iterator[Progress]:
        """Train the epochs of a phase, or wait until the process that trains them has stored the stage, or died."""
        while True:
            try:
                lease = self.stages.acquire(keyed.key)
            except LeaseHeld as held:
                yield self._progress(phase, index, waits_for=str(held.by or held))
                time.sleep(WAIT_SECONDS)
            else:
                with lease:
                    if not self._stored(keyed, phase.stored_epochs):
                        # Stored partial measurements come first: nothing is trained to measure them again.
                        for found in self._measurements.stored_partials(phase, keyed, self._trained, measures):
                            yield self._progress(phase, index, partial=found)
                        for epoch in self._compute(phase, keyed):
                            new = self._measurements.partial(phase, keyed, epoch, self._trained, measures)
                            yield self._progress(phase, index, epoch=epoch, partial=new)
                        return
            if (stored := self.stages.find_anywhere(keyed.key, phase.stored_epochs)) is not None:
                self._count(phase, stored)
                return

    def _count(self, phase: EpochPhase, stored: Stage | None) -> None:
        """Count the epochs of a stored training: as trained by this trial, before a restart, or as shared."""
        self._last_shared = stored is None or (stored.study, stored.trial) != (self.study, self.number)
        if self._last_shared:
            self._shared += phase.length
        else:
            self._trained += phase.length

    def _epochs(self, phase: Measure, index: int) -> dict[str, int]:
        """Return the epochs up to a measurement, trained and shared: all, or those before a snapshot was taken."""
        later = 0
        if phase.epoch is not None:
            training = next(step.phase for step in self._phases[index::-1] if isinstance(step.phase, EpochPhase))
            later = training.end - phase.epoch
        shared = later if self._last_shared else 0
        return {"epochs_trained": self._trained - later + shared, "epochs_shared": self._shared - shared}

    def _progress(
        self,
        phase: Phase,
        done: int,
        *,
        epoch: Epoch | None = None,
        point: Point | None = None,
        partial: PartialMeasurement | None = None,
        waits_for: str | None = None,
    ) -> Progress:
        ahead = self._phases[done].phase.kind if done < len(self._phases) else None
        return Progress(phase.kind, done, len(self._phases), self._trained, epoch, point, partial, waits_for, ahead)

    def _build(self, seed: int) -> nn.Module:
        return models.build_for(self.data, self.trial.model, seed=seed).to(self.device)

    def _load(self, key: str | None) -> State:
        """Return the state with this key: the current one, or from the store."""
        assert key, "only the initialisation starts from nothing"
        if key != self._state_key:
            state = self.stages.load(key)
            if state is None:
                raise self._lost(key)
            self._set_state(key, state.to(self.device))
        assert self._state is not None
        return self._state

    def _trainings(self, keyed: KeyedPhase) -> Trainings | None:
        """Return what a measurement's metrics compare; see `trainables.metrics.base.MetricContext`."""
        pair = compared_trainings(keyed, self._phases)
        return None if pair is None else (self._trajectory(pair[0]), self._trajectory(pair[1]))

    def _trajectory(self, keyed: KeyedPhase) -> dict[int, State]:
        """Return the states of a training that is stored, by epoch."""
        assert isinstance(keyed.phase, EpochPhase)
        states = {}
        for epoch in (*stored_snapshots(keyed, self.trial.protocol.follows or ()), keyed.phase.end):
            state = self.stages.load(keyed.key, epoch if epoch < keyed.phase.end else None)
            if state is None:
                raise self._lost(keyed.key)
            states[epoch] = state
        return states

    def _lost(self, key: str) -> StageLost:
        self.stages.drop(key)
        return StageLost(f"stage {key} is damaged")

    def _set_state(self, key: str, state: State) -> None:
        self._state, self._state_key = state, key

    def _store(
        self,
        keyed: KeyedPhase,
        state: State,
        *,
        epochs: int = 0,
        seconds: float = 0.0,
        snapshots: dict[int, State] | None = None,
        curve: TrainingCurve | None = None,
    ) -> None:
        made: dict[str, Any] = {"epochs": epochs, "seconds": seconds, "study": self.study, "trial": self.number}
        stored = self.stages.save(keyed.key, state, **made, snapshots=snapshots, curve=curve)
        self._set_state(keyed.key, stored.to(self.device))

    def _compute(self, phase: Phase, keyed: KeyedPhase) -> Iterator[Epoch]:
        """Compute a phase and store its state, by the method that `COMPUTES` names."""
        return COMPUTES[type(phase)](self, phase, keyed)

    def _init(self, phase: Init, keyed: KeyedPhase) -> Iterator[Epoch]:
        self._store(keyed, State.of(self._model))
        yield from ()

    def _train(self, phase: Train, keyed: KeyedPhase) -> Iterator[Epoch]:
        return self._run_epochs(phase, keyed, train)

    def _imitate(self, phase: Imitate, keyed: KeyedPhase) -> Iterator[Epoch]:
        return self._run_epochs(phase, keyed, partial(imitate, view=self._view))

    def _run_epochs(self, phase: EpochPhase, keyed: KeyedPhase, work: Work) -> Iterator[Epoch]:
        """Train the epochs of a phase with `work`, save progress, and store the result."""
        self._last_shared = False
        started = saved = time.monotonic()
        pause = min(self.checkpoint_seconds, FIRST_SAVE_SECONDS)
        state = self._load(keyed.parent)
        snapshots: dict[int, State] = {}
        passed: list[EpochValues] = []
        resume = None
        if progress := self.stages.load_progress(keyed.key):
            at, checkpoint, snapshots = progress
            passed = curves.from_numbers(checkpoint.pop(_CURVE, {}).get(_CURVE, torch.empty(0)).tolist())
            resume = (at, checkpoint)
            self._trained += at - phase.first
        last: Epoch | None = None
        try:
            for epoch in work(self._model, state, phase, self.data, key=keyed.key, device=self.device, resume=resume):
                self._trained += 1
                last = epoch
                passed.append(_values(epoch))
                if epoch.epoch in phase.stored_epochs:
                    snapshots[epoch.epoch] = epoch.state()
                began = time.monotonic()
                if epoch.epoch < phase.end and began - saved >= pause:
                    self.stages.save_progress(keyed.key, epoch.epoch, _checkpoint(epoch, passed), snapshots)
                    saved = time.monotonic()
                    pause = min(self.checkpoint_seconds, (saved - began) / SAVE_SHARE)
                yield epoch
        except GeneratorExit:  # The trial is stopped: save what was trained since the last save.
            if last is not None and last.epoch < phase.end:
                self.stages.save_progress(keyed.key, last.epoch, _checkpoint(last, passed), snapshots)
            raise
        final = last.state() if last else state
        self._store(
            keyed,
            final,
            epochs=phase.length,
            seconds=time.monotonic() - started,
            snapshots=snapshots,
            curve=_curve(phase, last, passed),
        )

    def _prune(self, phase: Prune, keyed: KeyedPhase) -> Iterator[Epoch]:
        draws, seed = generator(keyed.key, 0, "prune", self.device), derive(keyed.key, 0, "network")
        # Scores decide which weights go: they are not to depend on how a device rounds or chooses algorithms.
        with exact(self.device), isolated(seed, self.device):
            cut = prune(phase.pruning, phase.sparsity, self._load(keyed.parent), draws, self._view, phase.rates)
        self._store(keyed, cut)
        yield from ()

    def _snapshot(self, phase: Snapshot, keyed: KeyedPhase) -> Iterator[Epoch]:
        assert keyed.parent is not None
        state = self.stages.load(keyed.parent, phase.epoch)
        if state is None:
            raise self._lost(keyed.parent)
        self._store(keyed, state)
        yield from ()

    def _threshold(self, phase: Threshold, keyed: KeyedPhase) -> Iterator[Epoch]:
        self._store(keyed, below(phase.below, self._load(keyed.parent)))
        yield from ()

    def _view(self, state: State, draws: torch.Generator) -> Network:
        return Network(self._model, state, self.data, draws, self._build)

    def _inherit(self, phase: Inherit, keyed: KeyedPhase) -> Iterator[Epoch]:
        seed = self.trial.seed if phase.rest == "rewind" else derive(keyed.key, "inherit")
        small, fresh = self._load(keyed.parent), State.of(self._build(seed))
        self._store(keyed, inherit(phase, small, fresh, Wiring(self._model, self.data.shape)))
        yield from ()

    def _rewind(self, phase: Rewind, keyed: KeyedPhase) -> Iterator[Epoch]:
        source, pruned = self._rewind_source(phase, keyed), self._load(keyed.parent)
        self._store(keyed, State(source.params, source.buffers, pruned.masks, notes=pruned.notes).masked())
        yield from ()

    def _rewind_source(self, phase: Rewind, keyed: KeyedPhase) -> State:
        if phase.to == "random":
            return State.of(self._build(derive(keyed.key, "rewind")))
        found = rewind_source(keyed, self._phases)
        assert found is not None
        keyed, snapshots = found
        source = self.stages.load(keyed.key, *snapshots)
        if source is None:
            raise self._lost(keyed.key)
        return source.to(self.device)


_CURVE = "curve"
"""The group of tensors, and the tensor in it, that keeps the curve so far in a saved epoch."""


def _values(epoch: Epoch) -> EpochValues:
    held = epoch.held_back
    return EpochValues(
        epoch.epoch,
        epoch.loss,
        epoch.accuracy,
        epoch.lr,
        epoch.eps,
        epoch.validation_loss,
        held.clean_accuracy if held else None,
        held.robust_accuracy if held else None,
    )


def _checkpoint(epoch: Epoch, passed: list[EpochValues]) -> dict[str, Tensors]:
    """Return what resumes a training after an epoch, with the curve up to there."""
    return {**epoch.checkpoint(), _CURVE: {_CURVE: torch.tensor(curves.numbers(passed), dtype=torch.float64)}}


def _curve(phase: EpochPhase, last: Epoch | None, passed: list[EpochValues]) -> TrainingCurve | None:
    """Return the curve of a complete training; None of one without epochs."""
    if last is None or not passed:
        return None
    examples = last.held_back.examples if last.held_back else 0
    return TrainingCurve(phase.kind, phase.length, last.images, examples, tuple(passed), last.size)


COMPUTES: dict[type[Phase], Callable[[Run, Any, KeyedPhase], Iterator[Epoch]]] = {
    Init: Run._init,
    Train: Run._train,
    Imitate: Run._imitate,
    Prune: Run._prune,
    Snapshot: Run._snapshot,
    Threshold: Run._threshold,
    Rewind: Run._rewind,
    Inherit: Run._inherit,
}
"""What computes each kind of phase. A `Measure` has no entry: it leads to a point, not to a stage."""
