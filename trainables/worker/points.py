"""The measurements of a trial: its points, screened first if the study asks for it, and partial measurements."""

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
from trainables.engine.epoch import Epoch
from trainables.measure import evaluate
from trainables.method.partial import PartialSchedule
from trainables.method.phases import EpochPhase, Measure, Train
from trainables.method.protocol import Protocol
from trainables.method.screening import Screen
from trainables.metrics import CLEAN_ACCURACY, KNOWN
from trainables.metrics.base import Accuracy, Trainings
from trainables.recipes.trial import KeyedPhase
from trainables.store.records import PartialMeasurement, Point
from trainables.store.stages import Stages
from trainables.store.state import State


@dataclass(frozen=True)
class Measurements:
    """The measurements of one trial on one device; each is made once and stored."""

    model: nn.Module
    protocol: Protocol
    split: Split
    stages: Stages
    device: torch.device
    partial_schedule: PartialSchedule | None = None
    screen: Screen | None = None
    origin: Callable[[], State] | None = None
    trainings: Callable[[KeyedPhase], Trainings | None] = lambda keyed: None

    def stored(self, keyed: KeyedPhase) -> Point | None:
        """Return a stored point, or a stored cheap measurement that rules the point out."""
        if (found := self.stages.find_point(keyed.key)) is not None or self.screen is None:
            return found
        cheap = self.stages.find_point(self._cheap_key(keyed, self.screen))
        return cheap if cheap is not None and _ruled_out(cheap, self.screen) else None

    def point(self, keyed: KeyedPhase, state: Callable[[], State], since: float, **named: Any) -> Point:
        """Measure a point, or return it as it is stored.

        `named` are the fields that differ between trials that share the point; `since` is when the work for it began,
        in seconds of the monotonic clock.
        """
        if (found := self.stored(keyed)) is not None:
            return found.model_copy(update=named)
        if self.screen is not None:
            protocol = self._limited(self.screen.protocol(self.protocol))
            screened = {"key": self._cheap_key(keyed, self.screen), "tier": "screened"}
            cheap = self._point(keyed, state(), protocol, since, checked=False, **screened, **named)
            if _ruled_out(cheap, self.screen):
                return self.stages.save_point(cheap).model_copy(update=named)
        full = self._point(keyed, state(), self.protocol, since, checked=True, key=keyed.key, **named)
        return self.stages.save_point(full).model_copy(update=named)

    def stored_partials(
        self, phase: EpochPhase, keyed: KeyedPhase, before: int, measures: int
    ) -> Iterator[PartialMeasurement]:
        """Yield the stored partial measurements of a training.

        `before` counts the epochs that the trial had trained itself before it, `measures` the points it had measured.
        """
        for epoch in range(phase.first + 1, phase.end):
            resource = before + epoch - phase.first
            if self.partial_schedule is None or not self.partial_schedule.due(phase, epoch, resource):
                continue
            if found := self.stages.find_partial(keyed.key, epoch, self._partial_key(self.partial_schedule)):
                yield found.model_copy(update={"resource": resource, "measures": measures})

    def partial(
        self, phase: EpochPhase, keyed: KeyedPhase, epoch: Epoch, resource: int, measures: int
    ) -> PartialMeasurement | None:
        """Measure a training between two epochs if that is due."""
        if self.partial_schedule is None or not self.partial_schedule.due(phase, epoch.epoch, resource):
            return None
        named = {"resource": resource, "measures": measures}
        if stored := self.stages.find_partial(keyed.key, epoch.epoch, self._partial_key(self.partial_schedule)):
            return stored.model_copy(update=named)
        protocol = self._limited(self.partial_schedule.protocol(self.protocol))
        shrunk = isinstance(phase, Train) and phase.shrunk
        found = self._evaluated(epoch.state(), protocol, checked=False, shrunk=shrunk)
        share = (epoch.epoch - phase.first) / phase.length
        partial = PartialMeasurement(**named, **_numbers(found), share=share, attack=protocol.attack.label)
        self.stages.save_partial(keyed.key, epoch.epoch, self._partial_key(self.partial_schedule), partial)
        return partial

    def _partial_key(self, schedule: PartialSchedule) -> str:
        """Return the key of the protocol of partial measurements."""
        return digest(plain(schedule.protocol(self.protocol), defaults=False, hashed=True))

    def _cheap_key(self, keyed: KeyedPhase, screen: Screen) -> str:
        """Return the key of a cheap measurement; no full one has such a key, not even one of the same protocol."""
        protocol = plain(screen.protocol(self.protocol), defaults=False, hashed=True)
        return key(keyed.phase, keyed.parent, protocol=protocol, screened=True)

    def _limited(self, protocol: Protocol) -> Protocol:
        """Return a cheap protocol with at most as many images as the split has."""
        available = len(self.split)
        return protocol.model_copy(update={"examples": min(available, protocol.examples or available)})

    def _evaluated(
        self, state: State, protocol: Protocol, *, checked: bool, shrunk: bool, keyed: KeyedPhase | None = None
    ) -> evaluate.Measurement:
        return evaluate.measure(
            self.model,
            state,
            protocol,
            self.split,
            device=self.device,
            checked=checked,
            shrunk=shrunk,
            origin=self.origin,
            trainings=lambda: None if keyed is None else self.trainings(keyed),
        )

    def _point(
        self, keyed: KeyedPhase, state: State, protocol: Protocol, since: float, *, checked: bool, **named: Any
    ) -> Point:
        started = datetime.now(UTC)
        assert isinstance(keyed.phase, Measure)
        result = self._evaluated(state, protocol, checked=checked, shrunk=keyed.phase.shrunk, keyed=keyed)
        return Point(
            **named,
            **_numbers(result),
            stage=keyed.parent,
            parameters=result.parameters,
            robust_correct=int(result.robust_correct.sum()),
            clean_correct=int(result.clean_correct.sum()),
            attack=protocol.attack.label,
            norm=protocol.attack.norm,
            eps=float(protocol.eps),
            eps_text=protocol.eps.text,
            status=result.status,
            flags=result.flags,
            verdicts=evaluate.pack_verdicts(result.robust_correct),
            outcomes=_outcomes(result),
            metrics={name: None if value is None else float(value) for name, value in result.metrics.items()},
            weights_outside=result.weights_outside,
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


def _outcomes(result: evaluate.Measurement) -> dict[str, str]:
    """Return which examples are correct by the accuracies beside the robust one."""
    known = {name: value.outcomes for name, value in result.metrics.items() if isinstance(value, Accuracy)}
    bits = {name: evaluate.pack_verdicts(outcomes.cpu().numpy()) for name, outcomes in known.items()}
    return {CLEAN_ACCURACY: evaluate.pack_verdicts(result.clean_correct), **bits}


def _numbers(result: evaluate.Measurement) -> dict[str, Any]:
    """Return the fields that points and partial measurements have in common."""
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
    """Return the GPU's model, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
