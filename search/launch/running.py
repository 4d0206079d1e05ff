"""What the driver knows of the trials that run, by what their workers report."""

from __future__ import annotations

import math
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass

from search.store.live import RunningTrial
from trainables.method.phases import EpochPhase, Measure
from trainables.recipes.trial import KeyedPhase

STARTING = "starting"


@dataclass
class _Entry:
    """A trial that runs. Its first `ready` phases need no work, `stored` epochs among them no training.

    `began` and `heard` are times of the monotonic clock.
    """

    chain: Sequence[KeyedPhase]
    began: float
    heard: float
    ready: int
    stored: int
    phase: int = 0
    started: bool = False
    epoch: int | None = None
    loss: float | None = None
    host: str = ""
    points: int = 0
    robust_accuracy: float | None = None
    waits_for: str | None = None

    def moves_on(self, done: int) -> None:
        """Note how many phases are done: what takes long among the others is what it works on."""
        ahead = range(done, len(self.chain))
        phase = next(
            (at for at in ahead if isinstance(self.chain[at].phase, (EpochPhase, Measure))), len(self.chain) - 1
        )
        if phase != self.phase:
            self.phase, self.epoch, self.loss = phase, None, None

    def trained(self) -> int:
        """Return how many epochs of the chain are done."""
        lengths = [step.phase.length for step in self.chain[: self.phase] if isinstance(step.phase, EpochPhase)]
        current = self.chain[self.phase].phase if self.chain else None
        part = self.epoch - current.first if isinstance(current, EpochPhase) and self.epoch is not None else 0
        return sum(lengths) + part

    def done(self) -> float:
        """Return which share of the epochs that it trains is done."""
        total = sum(step.phase.length for step in self.chain if isinstance(step.phase, EpochPhase)) - self.stored
        return min(1.0, max(0.0, (self.trained() - self.stored) / total)) if total > 0 else 0.0


class RunningTrials:
    """The trials that run. An epoch's report costs a few assignments; other threads may read at any time."""

    def __init__(self) -> None:
        """Start with none."""
        self._entries: dict[int, _Entry] = {}

    def start(self, number: int, chain: Sequence[KeyedPhase], stored: Container[str]) -> None:
        """Note that a trial starts with these phases; `stored` has the keys of stages that need no work."""
        now = time.monotonic()
        ready = next((at for at, step in enumerate(chain) if not _ready(step, stored)), len(chain))
        lengths = [step.phase.length for step in chain[:ready] if isinstance(step.phase, EpochPhase)]
        entry = _Entry(chain, now, now, ready, sum(lengths))
        entry.moves_on(ready)
        self._entries[number] = entry

    def report(
        self,
        number: int,
        phases_done: int,
        *,
        epoch: int | None = None,
        loss: float | None = None,
        waits_for: str | None = None,
        host: str = "",
    ) -> None:
        """Note how far a worker says that its trial is."""
        if (entry := self._entries.get(number)) is None:
            return
        entry.heard, entry.started, entry.waits_for = time.monotonic(), True, waits_for
        entry.host = host or entry.host
        if epoch is None:  # The first report comes before the worker has passed what is stored.
            entry.moves_on(max(phases_done, entry.ready))
            return
        entry.moves_on(phases_done)
        entry.epoch, entry.loss = epoch, loss
        current = entry.chain[entry.phase].phase if entry.chain else None
        if isinstance(current, EpochPhase) and epoch >= current.end:
            entry.moves_on(entry.phase + 1)

    def measured(self, number: int, points: int, robust_accuracy: float) -> None:
        """Note how many points a trial has measured, and the robust accuracy that its last measurement gave."""
        if (entry := self._entries.get(number)) is not None:
            entry.heard, entry.started, entry.points = time.monotonic(), True, points
            entry.robust_accuracy = robust_accuracy

    def end(self, number: int) -> None:
        """Note that a trial no longer runs."""
        self._entries.pop(number, None)

    def now(self) -> tuple[RunningTrial, ...]:
        """Return the trials that run, in order of number."""
        now = time.monotonic()
        return tuple(_shown(number, entry, now) for number, entry in sorted(self._entries.copy().items()))


def _ready(step: KeyedPhase, stored: Container[str]) -> bool:
    return step.key in stored or not isinstance(step.phase, (EpochPhase, Measure))


def _shown(number: int, entry: _Entry, now: float) -> RunningTrial:
    phase = entry.chain[entry.phase].phase if entry.chain else None
    epochs = phase.epochs if isinstance(phase, EpochPhase) else None
    trained = entry.trained()
    loss = entry.loss if entry.loss is not None and math.isfinite(entry.loss) else None
    return RunningTrial(
        number=number,
        phase=phase.kind if phase is not None and entry.started else STARTING,
        epoch=None if epochs is None else entry.epoch or getattr(phase, "first", 0),
        epochs=epochs,
        loss=loss,
        seconds=now - entry.began,
        silent=now - entry.heard,
        host=entry.host,
        points=entry.points,
        done=entry.done(),
        waits_for=entry.waits_for,
        epochs_trained=max(0, trained - entry.stored),
        epochs_shared=min(trained, entry.stored),
        robust_accuracy=entry.robust_accuracy,
    )
