"""Projected gradient descent and the fast gradient sign method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.attacks.base import Attack, LossName
from trainables.attacks.climbing import Climbing
from trainables.attacks.gradients import input_gradient

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainables.attacks.ascent import Ball, Climber
    from trainables.attacks.base import LogitsFn
    from trainables.attacks.geometry import Region
    from trainables.attacks.losses import AttackLoss


class Pgd(Climbing):
    """Projected gradient ascent, by default on the cross-entropy. Source: Madry et al. 2018, arXiv:1706.06083."""

    kind: Literal["pgd"] = "pgd"
    steps: int = Field(default=10, gt=0, description="gradient steps")
    # Shorter steps settle in the nearest local maximum and measure up to a percentage point too much.
    step_size: float | None = Field(
        default=None, gt=0, description="length of a step as a share of eps; null: 2.5 / steps, at least 0.25"
    )
    random_start: bool = Field(default=True, description="start at a random point of the ball instead of the image")
    restarts: int = Field(
        default=1, gt=0, description="runs from independent random starts; the result of highest loss counts per image"
    )
    loss: LossName = Field(
        default="ce",
        description="what is ascended: ce, the cross-entropy; margin, the largest other logit minus the true one; dlr, "
        "the margin relative to the gap of the largest to the third logit",
    )

    @property
    def label(self) -> str:
        loss = "" if self.loss == "ce" else f"-{self.loss}"
        return f"PGD{loss}-{self.steps}" + (f"x{self.restarts}" if self.restarts > 1 else "")

    @property
    def sparing(self) -> bool:
        # On the cross-entropy, measurements stay those of the versions that attacked every image to the end.
        return self.loss != "ce" and super().sparing

    @property
    def takes_parts(self) -> bool:
        return type(self).hunt is Pgd.hunt

    @property
    def taken(self) -> int:
        return self.steps

    @property
    def share(self) -> float:
        """The length of a step as a share of eps."""
        return max(2.5 / self.steps, 0.25) if self.step_size is None else self.step_size

    def cheaper(self, steps: int) -> Pgd:
        return self.model_copy(update={"steps": min(steps, self.steps), "step_size": self.share, "restarts": 1})

    def climber(self, ball: Ball, start: Tensor) -> Climber:
        from trainables.attacks.ascent import Steady

        return Steady(ball, start, self.share)

    def begin(self, ball: Ball, generator: torch.Generator) -> Tensor:
        return ball.draw(generator) if self.random_start else ball.x

    def losses(self, logits_fn: LogitsFn, x: Tensor, y: Tensor) -> tuple[list[AttackLoss], AttackLoss]:
        from trainables.attacks.losses import LOSSES

        loss = LOSSES[self.loss](y)
        return [loss] * (self.restarts if self.random_start else 1), loss

    def perturb(
        self,
        logits_fn: LogitsFn,
        x: Tensor,
        y: Tensor,
        *,
        eps: float | Tensor,
        generator: torch.Generator,
        start: Tensor | None = None,
    ) -> Tensor:
        import torch

        from trainables.attacks.geometry import choose, region
        from trainables.attacks.losses import LOSSES

        around, loss_fn = region(self.norm, x, eps), LOSSES[self.loss](y)
        drawn = self.random_start and start is None

        def run() -> Tensor:
            begin = around.draw(generator) if drawn else x if start is None else start
            return climb(logits_fn, begin, loss_fn, around, steps=self.steps, size=self.share * eps)

        @torch.no_grad()
        def reached(end: Tensor) -> Tensor:
            return loss_fn.value(logits_fn(end))

        kept = run()
        if not drawn or self.restarts == 1:
            return kept
        highest = reached(kept)
        for _ in range(self.restarts - 1):
            end = run()
            loss = reached(end)
            kept = choose(loss > highest, end, kept)
            highest = torch.maximum(highest, loss)
        return kept

    def hunt(
        self,
        logits_fn: LogitsFn,
        x: Tensor,
        y: Tensor,
        *,
        eps: float | Tensor,
        generator: torch.Generator,
        standing: Tensor,
    ) -> Tensor:
        # Without this, `can_hunt` takes the `hunt` of the base for one of another `perturb`.
        return super().hunt(logits_fn, x, y, eps=eps, generator=generator, standing=standing)


class Fgsm(Attack):
    """One gradient step, by default from a random start.

    Source: Goodfellow et al. 2015, arXiv:1412.6572; random start and step 1.25: Wong et al. 2020, arXiv:2001.03994.
    """

    kind: Literal["fgsm"] = "fgsm"
    random_start: bool = Field(default=True, description="start at a random point of the ball instead of the image")
    step_size: float = Field(default=1.25, gt=0, description="length of the step as a share of eps")

    def perturb(
        self,
        logits_fn: LogitsFn,
        x: Tensor,
        y: Tensor,
        *,
        eps: float | Tensor,
        generator: torch.Generator,
        start: Tensor | None = None,
    ) -> Tensor:
        once = Pgd(norm=self.norm, steps=1, step_size=self.step_size, random_start=self.random_start)
        return once.perturb(logits_fn, x, y, eps=eps, generator=generator, start=start)


class RFgsm(Attack):
    """A random step, in l_inf one of signs, then a gradient step. Source: Tramer et al. 2018, arXiv:1705.07204."""

    kind: Literal["rfgsm"] = "rfgsm"
    share: float = Field(default=0.5, gt=0, lt=1, description="length of the random step as a share of eps")

    def perturb(
        self,
        logits_fn: LogitsFn,
        x: Tensor,
        y: Tensor,
        *,
        eps: float | Tensor,
        generator: torch.Generator,
        start: Tensor | None = None,
    ) -> Tensor:
        import torch

        from trainables.attacks.geometry import per_image, region
        from trainables.attacks.losses import CrossEntropy

        around = region(self.norm, x, eps)
        if start is None:
            noise = torch.empty(x.shape, dtype=x.dtype, device=x.device).normal_(generator=generator)
            start = around.ascend(x.clone(), noise, per_image(self.share * eps, x))
        return climb(logits_fn, start, CrossEntropy(y), around, steps=1, size=(1 - self.share) * eps)


def climb(
    logits_fn: LogitsFn, start: Tensor, loss: AttackLoss, around: Region, *, steps: int, size: float | Tensor
) -> Tensor:
    """Ascend the loss of each image from `start`, staying in the region, and return the last iterate.

    Only gradients with respect to the input are computed.

    Shapes: start and result (N, ...) in [0, 1]; size a number or (N,). Units: size in pixel units of [0, 1].
    """
    from trainables.attacks.geometry import per_image

    size = per_image(size, start)
    z = start.detach().clone()
    for _ in range(steps):
        z = around.ascend(z, input_gradient(logits_fn, z, loss.slope), size)
    return z
