"""What is measured of a trial: its points, cheaply first where that is asked for, and looks at trainings under way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch import nn

from trainables import __version__
from trainables.core.keys import digest, key
from trainables.core.spec import plain
from trainables.data.tensors import Split
from trainables.engine.train import Epoch
from trainables.measure import evaluate
from trainables.method.partial import PartialSchedule
from trainables.method.phases import EpochPhase
from trainables.method.protocol import Protocol
from trainables.method.screening import Screen
from trainables.metrics import KNOWN
from trainables.metrics.base import Trainings
from trainables.recipes.trial import KeyedPhase
from trainables.store.records import PartialMeasurement, Point
from trainables.store.stages import Stages
from trainables.store.state import State


@dataclass(frozen=True)
class Measuring:
    """The measurements of one trial on one device; each is made once and stored."""

    model: nn.Module
    protocol: Protocol
    split: Split
    stages: Stages
    device: torch.device
    rungs: PartialSchedule | None = None
    screen: Screen | None = None
    origin: Callable[[], State] | None = None
    trainings: Callable[[KeyedPhase], Trainings | None] = lambda step: None

    def known(self, step: KeyedPhase) -> Point | None:
        """Return a measurement's stored result, or a cheap one that rules the point out again."""
        if (found := self.stages.find_point(step.key)) is not None or self.screen is None:
            return found
        cheap = self.stages.find_point(self._cheap_key(step, self.screen))
        return cheap if cheap is not None and _ruled_out(cheap, self.screen) else None

    def point(self, step: KeyedPhase, state: Callable[[], State], since: float, **here: Any) -> Point:
        """Measure a point, or return it as it is stored.

        `here` is what differs between trials that share it; `since` is when the work for it began.
        """
        if (found := self.known(step)) is not None:
            return found.model_copy(update=here)
        if self.screen is not None:
            protocol = self._within(self.screen.protocol(self.protocol))
            named = {"key": self._cheap_key(step, self.screen), "tier": "screened"}
            cheap = self._point(step, state(), protocol, since, checked=False, **named, **here)
            if _ruled_out(cheap, self.screen):
                return self.stages.save_point(cheap).model_copy(update=here)
        whole = self._point(step, state(), self.protocol, since, checked=True, key=step.key, **here)
        return self.stages.save_point(whole).model_copy(update=here)

    def seen(self, phase: EpochPhase, step: KeyedPhase, before: int, measures: int) -> Iterator[PartialMeasurement]:
        """Return the looks at a training that are stored, `before` being the epochs that the trial trained before."""
        for epoch in range(phase.first + 1, phase.end):
            resource = before + epoch - phase.first
            if self.rungs is None or not self.rungs.due(phase, epoch, resource):
                continue
            if found := self.stages.find_partial(step.key, epoch, self._looks(self.rungs)):
                yield found.model_copy(update={"resource": resource, "measures": measures})

    def look(
        self, phase: EpochPhase, step: KeyedPhase, epoch: Epoch, resource: int, measures: int
    ) -> PartialMeasurement | None:
        """Look at a training between two epochs, if that is due."""
        if self.rungs is None or not self.rungs.due(phase, epoch.epoch, resource):
            return None
        here = {"resource": resource, "measures": measures}
        if known := self.stages.find_partial(step.key, epoch.epoch, self._looks(self.rungs)):
            return known.model_copy(update=here)
        protocol = self._within(self.rungs.protocol(self.protocol))
        found = self._evaluated(epoch.state(), protocol, checked=False)
        share = (epoch.epoch - phase.first) / phase.length
        rung = PartialMeasurement(**here, **_numbers(found), share=share, attack=protocol.attack.label)
        self.stages.save_partial(step.key, epoch.epoch, self._looks(self.rungs), rung)
        return rung

    def _looks(self, rungs: PartialSchedule) -> str:
        """Name the protocol of looks."""
        return digest(plain(rungs.protocol(self.protocol), defaults=False, hashed=True))

    def _cheap_key(self, step: KeyedPhase, screen: Screen) -> str:
        """Name a cheap measurement; no whole one has such a key, not even one of the same protocol."""
        protocol = plain(screen.protocol(self.protocol), defaults=False, hashed=True)
        return key(step.phase, step.parent, protocol=protocol, screened=True)

    def _within(self, protocol: Protocol) -> Protocol:
        """Return a cheap protocol that asks for no more images than there are."""
        there = len(self.split)
        return protocol.model_copy(update={"examples": min(there, protocol.examples or there)})

    def _evaluated(
        self, state: State, protocol: Protocol, *, checked: bool, step: KeyedPhase | None = None
    ) -> evaluate.Measurement:
        return evaluate.measure(
            self.model,
            state,
            protocol,
            self.split,
            device=self.device,
            checked=checked,
            origin=self.origin,
            trainings=lambda: None if step is None else self.trainings(step),
        )

    def _point(
        self, step: KeyedPhase, state: State, protocol: Protocol, since: float, *, checked: bool, **named: Any
    ) -> Point:
        started = datetime.now(UTC)
        result = self._evaluated(state, protocol, checked=checked, step=step)
        return Point(
            **named,
            **_numbers(result),
            stage=step.parent,
            robust_correct=int(result.robust_correct.sum()),
            clean_correct=int(result.clean_correct.sum()),
            attack=protocol.attack.label,
            norm=protocol.attack.norm,
            eps=float(protocol.eps),
            eps_text=protocol.eps.text,
            status=result.status,
            flags=result.flags,
            verdicts=evaluate.pack_verdicts(result.robust_correct),
            metrics=result.metrics,
            seconds=time.monotonic() - since,
            device=device_name(self.device),
            weights_sha256=result.weights_sha256,
            code_version=__version__,
            started=started.isoformat(timespec="seconds"),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def _ruled_out(cheap: Point, screen: Screen) -> bool:
    counted = {name: float(value) for name in KNOWN if (value := getattr(cheap, name)) is not None}
    return screen.rules_out(counted, cheap.robust_correct, cheap.clean_correct, cheap.examples)


def _numbers(result: evaluate.Measurement) -> dict[str, Any]:
    """Return what points and looks have in common."""
    return {
        "robust_accuracy": result.robust_correct.mean().item(),
        "clean_accuracy": result.clean_correct.mean().item(),
        "examples": len(result.clean_correct),
        "sparsity": 1 - result.nonzero / result.prunable,
        "nonzero": result.nonzero,
        "prunable": result.prunable,
        "macs_dense": result.macs_dense,
        "macs_effective": result.macs_effective,
    }


def device_name(device: torch.device) -> str:
    """Return a name a person recognises: the GPU's model, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
