"""Run one trial: its phases in order, from whatever is stored already."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial, singledispatchmethod

import torch
from torch import nn

from trainables import models
from trainables.core.errors import StageLost
from trainables.core.rng import derive, generator
from trainables.data.tensors import TrainingData
from trainables.engine.imitate import imitate
from trainables.engine.inherit import inherit
from trainables.engine.train import Epoch, train
from trainables.measure.evaluate import exact
from trainables.method.partial import PartialSchedule
from trainables.method.phases import EpochPhase, Imitate, Inherit, Init, Measure, Phase, Prune, Rewind, Threshold, Train
from trainables.method.screening import Screen
from trainables.metrics.base import Trainings
from trainables.pruning.cut import below, prune
from trainables.pruning.network import Network
from trainables.recipes.trial import KeyedPhase, TrialSpec, keyed_phases
from trainables.store.lease import Held
from trainables.store.records import PartialMeasurement, Point
from trainables.store.stages import Stage, Stages
from trainables.store.state import State
from trainables.worker.missing import followed, kept_of, missing, origin
from trainables.worker.points import Measuring

WAIT_SECONDS = 0.2
"""Between two looks at whether another process has stored a stage."""

SAVE_SHARE = 0.02
"""The share of a training's time that may go into saving its progress."""
FIRST_SAVE_SECONDS = 0.5
"""Before this, nothing that is lost is worth a save."""

Work = Callable[..., Iterator[Epoch]]
"""What does the epochs of a phase: called as `train` is."""


@dataclass(frozen=True)
class Report:
    """Progress of a trial.

    After an epoch, perhaps with a look at the training then; with a measured point; or while another process computes
    what it needs.
    """

    phase: str
    phases_done: int
    phases: int
    epochs_trained: int
    epoch: Epoch | None = None
    point: Point | None = None
    rung: PartialMeasurement | None = None
    waits_for: str | None = None


@dataclass
class Run:
    """One trial under way on one device.

    `reports()` yields after every epoch and every measured point, and ends when the trial is
    complete. A stage that is stored is not computed again; a training that was cut off goes on
    after its last saved epoch; one that another process is at is waited for, which planning avoids. An epoch
    is saved when `checkpoint_seconds` have passed since the last save, or sooner where saves are cheap: they take at
    most `SAVE_SHARE` of the time. `rungs` says when a training is looked at on its way; the looks change no weight and
    no key. `screen` says which points are measured cheaply and no more.
    """

    trial: TrialSpec
    data: TrainingData
    stages: Stages
    number: int
    study: str
    device: torch.device
    checkpoint_seconds: float = 30.0
    rungs: PartialSchedule | None = None
    screen: Screen | None = None
    _model: nn.Module = field(init=False)
    _measuring: Measuring = field(init=False)
    _steps: tuple[KeyedPhase, ...] = field(init=False)
    _trained: int = field(default=0, init=False)
    _shared: int = field(default=0, init=False)
    _state: State | None = field(default=None, init=False)
    _state_key: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self._steps = keyed_phases(self.trial, self.data.fingerprint)
        self._model = self._build(self.trial.seed)
        self._measuring = Measuring(
            self._model,
            self.trial.protocol,
            self.data.validation,
            self.stages,
            self.device,
            self.rungs,
            self.screen,
            origin=lambda: State.of(self._build(self.trial.seed)),
            trainings=self._trainings,
        )

    def reports(self) -> Generator[Report, None, None]:
        """Work through the phases.

        Raises:
            Diverged, SpecError, StorageError: the trial cannot be completed.
            StageLost: a stored stage is damaged; another attempt computes it again.
        """
        measures = 0
        last_point = time.monotonic()
        known = self._measuring.known
        follows = self.trial.protocol.follows
        left = missing(self._steps, self._stored, lambda step: known(step) is not None, follows)
        for index, step in enumerate(self._steps):
            if isinstance(step.phase, Measure):
                here = {"measure": measures, "epochs_trained": self._trained, "epochs_shared": self._shared}
                state = partial(self._at, step.parent)
                point = self._measuring.point(step, state, last_point, **here, stands_for=step.phase.stands_for)
                measures += 1
                last_point = time.monotonic()
                yield self._report(step.phase, index + 1, point=point)
                continue
            if isinstance(step.phase, EpochPhase) and step.key in left:
                yield from self._trained_once(step.phase, step, index, measures)
            elif step.key in left:
                for epoch in self._compute(step.phase, step):
                    yield self._report(step.phase, index, epoch=epoch)
            elif isinstance(step.phase, EpochPhase):
                before = self._trained
                self._count(step.phase, self.stages.find(step.key))
                if self._trained > before:
                    for rung in self._measuring.seen(step.phase, step, before, measures):
                        yield self._report(step.phase, index, rung=rung)
            yield self._report(step.phase, index + 1)

    def _stored(self, step: KeyedPhase, snapshots: Iterable[int]) -> bool:
        # Only trainings are worth a look at other studies: all else is computed in a moment.
        find = self.stages.find_anywhere if isinstance(step.phase, EpochPhase) else self.stages.find
        return find(step.key, snapshots) is not None

    def _trained_once(self, phase: EpochPhase, step: KeyedPhase, index: int, measures: int) -> Iterator[Report]:
        """Do the epochs of a phase, or wait until whoever is at it has stored the stage, or is gone."""
        while True:
            try:
                lease = self.stages.begin(step.key)
            except Held as held:
                yield self._report(phase, index, waits_for=str(held.by or held))
                time.sleep(WAIT_SECONDS)
            else:
                with lease:
                    if not self._stored(step, phase.kept):
                        # What is known of it comes first: nothing is trained to look again.
                        for rung in self._measuring.seen(phase, step, self._trained, measures):
                            yield self._report(phase, index, rung=rung)
                        for epoch in self._compute(phase, step):
                            look = self._measuring.look(phase, step, epoch, self._trained, measures)
                            yield self._report(phase, index, epoch=epoch, rung=look)
                        return
            if (stored := self.stages.find_anywhere(step.key, phase.kept)) is not None:
                self._count(phase, stored)
                return

    def _count(self, phase: EpochPhase, stored: Stage | None) -> None:
        """Count the epochs of a training that is not done here: this trial's own, before a restart, or shared."""
        if stored is not None and (stored.study, stored.trial) == (self.study, self.number):
            self._trained += phase.length
        else:
            self._shared += phase.length

    def _report(
        self,
        phase: Phase,
        done: int,
        *,
        epoch: Epoch | None = None,
        point: Point | None = None,
        rung: PartialMeasurement | None = None,
        waits_for: str | None = None,
    ) -> Report:
        return Report(phase.kind, done, len(self._steps), self._trained, epoch, point, rung, waits_for)

    def _build(self, seed: int) -> nn.Module:
        data = self.data
        model = models.build(
            self.trial.model, shape=data.shape, classes=data.classes, mean=data.mean, std=data.std, seed=seed
        )
        return model.to(self.device)

    def _at(self, key: str | None) -> State:
        """Return the state with this key: the one in hand, or from the store."""
        assert key, "only the initialisation starts from nothing"
        if key != self._state_key:
            state = self.stages.load(key)
            if state is None:
                raise self._lost(key)
            self._hold(key, state.to(self.device))
        assert self._state is not None
        return self._state

    def _trainings(self, step: KeyedPhase) -> Trainings | None:
        """Return what a measurement's metrics compare; see `trainables.metrics.base.MetricContext`."""
        found = followed(step, self._steps)
        return None if found is None else (self._path(found[0]), self._path(found[1]))

    def _path(self, step: KeyedPhase) -> dict[int, State]:
        """Return the states of a training that is stored, by epoch."""
        assert isinstance(step.phase, EpochPhase)
        states = {}
        for epoch in (*kept_of(step, self.trial.protocol.follows or ()), step.phase.end):
            state = self.stages.load(step.key, epoch if epoch < step.phase.end else None)
            if state is None:
                raise self._lost(step.key)
            states[epoch] = state
        return states

    def _lost(self, key: str) -> StageLost:
        self.stages.drop(key)
        return StageLost(f"stage {key} is damaged")

    def _hold(self, key: str, state: State) -> None:
        self._state, self._state_key = state, key

    def _store(
        self,
        step: KeyedPhase,
        state: State,
        *,
        epochs: int = 0,
        seconds: float = 0.0,
        snapshots: dict[int, State] | None = None,
    ) -> None:
        stored = self.stages.save(
            step.key, state, epochs=epochs, seconds=seconds, study=self.study, trial=self.number, snapshots=snapshots
        )
        self._hold(step.key, stored.to(self.device))

    @singledispatchmethod
    def _compute(self, phase: Phase, step: KeyedPhase) -> Iterator[Epoch]:
        raise NotImplementedError(f"no way to run a phase of kind {phase.kind}")

    @_compute.register
    def _init(self, phase: Init, step: KeyedPhase) -> Iterator[Epoch]:
        self._store(step, State.of(self._model))
        yield from ()

    @_compute.register
    def _train(self, phase: Train, step: KeyedPhase) -> Iterator[Epoch]:
        return self._learn(phase, step, train)

    @_compute.register
    def _imitate(self, phase: Imitate, step: KeyedPhase) -> Iterator[Epoch]:
        return self._learn(phase, step, partial(imitate, view=self._view))

    def _learn(self, phase: EpochPhase, step: KeyedPhase, work: Work) -> Iterator[Epoch]:
        """Do the epochs of a phase with `work`, saving on the way, and store what they lead to."""
        started = saved = time.monotonic()
        pause = min(self.checkpoint_seconds, FIRST_SAVE_SECONDS)
        state = self._at(step.parent)
        snapshots: dict[int, State] = {}
        resume = None
        if progress := self.stages.load_progress(step.key):
            at, checkpoint, snapshots = progress
            resume = (at, checkpoint)
            self._trained += at - phase.first
        last: Epoch | None = None
        try:
            for epoch in work(self._model, state, phase, self.data, key=step.key, device=self.device, resume=resume):
                self._trained += 1
                last = epoch
                if epoch.epoch in phase.kept:
                    snapshots[epoch.epoch] = epoch.state()
                began = time.monotonic()
                if epoch.epoch < phase.end and began - saved >= pause:
                    self.stages.save_progress(step.key, epoch.epoch, epoch.checkpoint(), snapshots)
                    saved = time.monotonic()
                    pause = min(self.checkpoint_seconds, (saved - began) / SAVE_SHARE)
                yield epoch
        except GeneratorExit:  # Told to stop: what has been trained since the last save is not lost.
            if last is not None and last.epoch < phase.end:
                self.stages.save_progress(step.key, last.epoch, last.checkpoint(), snapshots)
            raise
        final = last.state() if last else state
        self._store(
            step,
            final,
            epochs=phase.length,
            seconds=time.monotonic() - started,
            snapshots=snapshots,
        )

    @_compute.register
    def _prune(self, phase: Prune, step: KeyedPhase) -> Iterator[Epoch]:
        draws = generator(step.key, 0, "prune", self.device)
        # Scores decide which weights go: they are not to depend on how a device rounds or chooses algorithms.
        with exact(self.device):
            cut = prune(phase, self._at(step.parent), draws, self._view)
        self._store(step, cut)
        yield from ()

    @_compute.register
    def _threshold(self, phase: Threshold, step: KeyedPhase) -> Iterator[Epoch]:
        self._store(step, below(phase.below, self._at(step.parent)))
        yield from ()

    def _view(self, state: State, draws: torch.Generator) -> Network:
        return Network(self._model, state, self.data, draws, self._build)

    @_compute.register
    def _inherit(self, phase: Inherit, step: KeyedPhase) -> Iterator[Epoch]:
        seed = self.trial.seed if phase.rest == "rewind" else derive(step.key, "inherit")
        self._store(step, inherit(phase, self._at(step.parent), State.of(self._build(seed))))
        yield from ()

    @_compute.register
    def _rewind(self, phase: Rewind, step: KeyedPhase) -> Iterator[Epoch]:
        source = self._rewind_source(phase, step)
        self._store(step, State(source.params, source.buffers, self._at(step.parent).masks).masked())
        yield from ()

    def _rewind_source(self, phase: Rewind, step: KeyedPhase) -> State:
        if phase.to == "random":
            return State.of(self._build(derive(step.key, "rewind")))
        found = origin(step, self._steps)
        assert found is not None
        step, snapshots = found
        source = self.stages.load(step.key, *snapshots)
        if source is None:
            raise self._lost(step.key)
        return source.to(self.device)


def assigned_device(gpus: float) -> torch.device:
    """Return the device of a trial that was given `gpus` GPUs: Ray hides no GPU from one that asked for none."""
    return torch.device("cuda" if gpus and torch.cuda.is_available() else "cpu")
