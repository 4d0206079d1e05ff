"""Cheap looks at a training on its way: when they are due, and how they are measured."""

from __future__ import annotations

from trainables.core.spec import Spec
from trainables.method.phases import EpochPhase, Train
from trainables.method.protocol import Protocol


class PartialSchedule(Spec):
    """When a training is looked at, for early stopping alone.

    A look is due after `levels` epochs that the trial trained itself, and after `shares` of each training of at
    least `least` epochs; never at a training's end, where there is a point to measure. `examples` and `steps` say how
    cheaply. What is not trained for its accuracy is not looked at.
    """

    levels: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    least: int = 1
    examples: int = 128
    steps: int = 5

    def due(self, phase: EpochPhase, epoch: int, resource: int) -> bool:
        """Say whether to look after `epoch` of the phase, the trial's own epoch number `resource`."""
        length = phase.length
        if not isinstance(phase, Train) or epoch >= phase.end or length < 1:
            return False
        marks = {max(1, round(share * length)) for share in self.shares} if length >= self.least else set()
        return resource in self.levels or epoch - phase.first in marks

    def protocol(self, full: Protocol) -> Protocol:
        """Return the protocol of a look."""
        return full.cheaper(self.examples, self.steps)
