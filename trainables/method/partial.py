"""Partial measurements of a training before its end: when they are due, and by which protocol."""

from __future__ import annotations

from pydantic import Field

from trainables.core.spec import Spec
from trainables.method.phases import EpochPhase, Train
from trainables.method.protocol import Protocol


class PartialSchedule(Spec):
    """When a training is measured partially, for early stopping alone.

    Never at a training's end, where a point is measured; nor in phases that are not trained for their accuracy.
    """

    levels: tuple[int, ...] = Field(default=(), description="epochs that the trial has trained itself")
    shares: tuple[float, ...] = Field(default=(), description="parts of each training")
    least: int = Field(default=1, description="epochs of the shortest training that `shares` apply to")
    examples: int = Field(default=128, description="largest number of examples of the protocol")
    steps: int = Field(default=5, description="largest number of attack steps")

    def due(self, phase: EpochPhase, epoch: int, resource: int) -> bool:
        """Return whether to measure after `epoch` of the phase, the trial's own epoch number `resource`."""
        length = phase.length
        if not isinstance(phase, Train) or epoch >= phase.end or length < 1:
            return False
        marks = {max(1, round(share * length)) for share in self.shares} if length >= self.least else set()
        return resource in self.levels or epoch - phase.first in marks

    def protocol(self, full: Protocol) -> Protocol:
        """Return the protocol of a partial measurement."""
        return full.cheaper(self.examples, self.steps)
