"""APGD: projected gradient ascent that sets its step size itself, on the cross-entropy and on DLR."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainables.attacks.climbing import Climbing

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.attacks.ascent import Ball, Climber
    from trainables.attacks.base import LogitsFn, LossName
    from trainables.attacks.losses import AttackLoss


class Apgd(Climbing):
    """Base of the forms of APGD. Source: Croce & Hein 2020, arXiv:2003.01690."""

    ascends: ClassVar[LossName]

    steps: int = Field(default=100, gt=0, description="gradient steps of a run; they decide when the step size halves")
    restarts: int = Field(default=1, gt=0, description="runs from independent random starts")
    stop: int | None = Field(default=None, gt=0, description="end each run after this many steps; null: after all")

    @property
    def label(self) -> str:
        times = f"x{self.restarts}" if self.restarts > 1 else ""
        part = "" if self.taken == self.steps else f" (first {self.taken})"
        return f"{self.kind.upper()}-{self.steps}{times}{part}"

    @property
    def taken(self) -> int:
        return self.steps if self.stop is None else min(self.stop, self.steps)

    def cheaper(self, steps: int) -> Apgd:
        # Not fewer `steps`: the first ones would be others, and might break what all of them do not.
        return self.model_copy(update={"stop": min(steps, self.taken), "restarts": 1})

    def climber(self, ball: Ball, start: Tensor) -> Climber:
        from trainables.attacks.ascent import Adaptive

        return Adaptive(ball, start, self.steps)

    def losses(self, logits_fn: LogitsFn, x: Tensor, y: Tensor) -> tuple[list[AttackLoss], AttackLoss]:
        from trainables.attacks.losses import LOSSES

        loss = LOSSES[self.ascends](y)
        return [loss] * self.restarts, loss


class ApgdCe(Apgd):
    """APGD on the cross-entropy."""

    ascends = "ce"

    kind: Literal["apgd-ce"] = "apgd-ce"


class ApgdDlr(Apgd):
    """APGD on the difference of logits ratio (DLR): the margin, relative to the logits; below 3 classes the margin."""

    ascends = "dlr"

    kind: Literal["apgd-dlr"] = "apgd-dlr"


class ApgdTargeted(Apgd):
    """APGD on the targeted DLR, towards one class after the other, the most probable first; below 4 classes the lead.

    Source: Croce & Hein 2020, arXiv:2003.01690.
    """

    ascends = "dlr"

    kind: Literal["apgd-t"] = "apgd-t"
    targets: int = Field(default=9, gt=0, description="number of classes, those of the largest logits; a run for each")

    @property
    def label(self) -> str:
        return f"{super().label} ({self.targets} targets)"

    def cheaper(self, steps: int) -> ApgdTargeted:
        return self.model_copy(update={"stop": min(steps, self.taken), "restarts": 1, "targets": 1})

    def losses(self, logits_fn: LogitsFn, x: Tensor, y: Tensor) -> tuple[list[AttackLoss], AttackLoss]:
        import torch

        from trainables.attacks.losses import Margin, TargetedDlr
        from trainables.attacks.standing import classes

        with torch.no_grad():
            logits = logits_fn(x)
        others = logits.float().scatter(1, classes(y)[:, None], -torch.inf)
        ranked = others.sort(dim=1, descending=True, stable=True).indices
        targets = ranked[:, : min(self.targets, logits.shape[1] - 1)]
        return [TargetedDlr(y, target) for _ in range(self.restarts) for target in targets.unbind(dim=1)], Margin(y)
