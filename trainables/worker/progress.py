"""What a running trial reports."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.engine.epoch import Epoch
from trainables.store.records import PartialMeasurement, Point


@dataclass(frozen=True)
class Progress:
    """How far a trial is.

    Yielded after an epoch, perhaps with a partial measurement; with a point, measured now or `stored` before; or while
    another process computes a stage that the trial needs. `phase` is what it reports on, and `ahead` the phase that
    comes next, if any.
    """

    phase: str
    phases_done: int
    phases: int
    epochs_trained: int
    epoch: Epoch | None = None
    point: Point | None = None
    partial: PartialMeasurement | None = None
    waits_for: str | None = None
    ahead: str | None = None
    stored: bool = False

    @property
    def last(self) -> bool:
        """Whether nothing of the trial is left to do: it ends with a point."""
        return self.point is not None and self.phases_done == self.phases

    @property
    def activity(self) -> str:
        """What the trial does now, such as `train 34/80`."""
        if self.waits_for is not None:
            return "waits"
        if self.epoch is not None:
            return f"{self.phase} {self.epoch.epoch}/{self.epoch.epochs}"
        return self.ahead or "ends"
