"""Learning-rate schedules: pure functions of the epoch, so that a resumed training has nothing to restore."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import Field

from trainables.core.registry import Registry
from trainables.core.spec import Spec, located


class Schedule(Spec):
    """Base of every learning-rate schedule."""

    kind: str
    warmup: float = Field(default=0.0, ge=0, description="epochs over which the learning rate rises linearly from 0")

    def factor(self, epoch: float, epochs: int) -> float:
        """Return the factor of the learning rate, `epoch` epochs into a training of `epochs`."""
        if epoch < self.warmup:
            return epoch / self.warmup
        return self.after_warmup(epoch, epochs)

    def check_length(self, epochs: int, steps: int) -> None:
        """Refuse a training of `epochs` epochs of `steps` steps in which part of the schedule never comes due.

        Raises:
            pydantic.ValidationError: names the field.
        """

    @abstractmethod
    def after_warmup(self, epoch: float, epochs: int) -> float:
        """Return the factor at `epoch`, which is past the warm-up, of a training of `epochs`."""


class Constant(Schedule):
    """No change."""

    kind: Literal["constant"] = "constant"

    def after_warmup(self, epoch: float, epochs: int) -> float:
        return 1.0


class Cosine(Schedule):
    """Half a cosine from 1 after the warm-up down to `final`. Source: arXiv:1608.03983."""

    kind: Literal["cosine"] = "cosine"
    final: float = Field(default=0.0, ge=0, le=1, description="factor at the end")

    def after_warmup(self, epoch: float, epochs: int) -> float:
        share = min(1.0, (epoch - self.warmup) / max(epochs - self.warmup, 1e-12))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * share)) / 2


class Step(Schedule):
    """Multiplied by `gamma` at parts of the training."""

    kind: Literal["step"] = "step"
    at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.5, 0.75), description="parts of the training, or of a cycle, after which the factor falls"
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="factor of each fall")
    cycle: int | None = Field(
        default=None, gt=0, description="epochs after which the schedule starts anew; null: never"
    )

    def after_warmup(self, epoch: float, epochs: int) -> float:
        if self.cycle is not None:
            epoch, epochs = epoch % self.cycle, self.cycle
        # Compared in epochs with a tolerance: 0.3 * 10 is not 3.
        return self.gamma ** sum(epoch + 1e-9 >= share * epochs for share in self.at)

    def check_length(self, epochs: int, steps: int) -> None:
        for share in self.at:
            if share * (self.cycle or epochs) > epochs - 1 / steps + 1e-9:
                message = f"the fall after {share:g} never comes due in a training of {epochs} epochs"
                of = f" with a cycle of {self.cycle}" if self.cycle else ""
                raise located(f"{message}{of}", "at", value=share)


class OneCycle(Schedule):
    """Linear from `start` up to 1 at `peak`, and linear down to 0.

    `warmup` must stay 0: the rise is the warm-up. Source: arXiv:1708.07120, linear form.
    """

    kind: Literal["one_cycle"] = "one_cycle"
    warmup: float = Field(default=0.0, ge=0, le=0, description="must stay 0: the rise is the warm-up")
    peak: float = Field(default=0.3, gt=0, lt=1, description="part of the training after which the factor is 1")
    start: float = Field(default=0.04, gt=0, le=1, description="factor at the start")

    def after_warmup(self, epoch: float, epochs: int) -> float:
        share = min(1.0, epoch / epochs)
        if share < self.peak:
            return self.start + (1 - self.start) * share / self.peak
        return (1 - share) / (1 - self.peak)


SCHEDULES: Registry[Schedule] = Registry(
    "schedule", Schedule, {"constant": Constant, "cosine": Cosine, "step": Step, "one_cycle": OneCycle}
)
