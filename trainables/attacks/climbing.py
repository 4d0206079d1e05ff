"""The base of attacks that climb a loss: runs from random starts, of which the strongest input of each image counts."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from trainables.attacks.base import Sparing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainables.attacks.ascent import Ball, Climber
    from trainables.attacks.base import LogitsFn
    from trainables.attacks.losses import AttackLoss


class Climbing(Sparing):
    """Base of PGD and the forms of APGD."""

    @property
    @abstractmethod
    def taken(self) -> int:
        """The gradient steps of a run."""

    @abstractmethod
    def climber(self, ball: Ball, start: Tensor) -> Climber:
        """Return how a run moves, from its first inputs (N, ...)."""

    @abstractmethod
    def losses(self, logits_fn: LogitsFn, x: Tensor, y: Tensor) -> tuple[list[AttackLoss], AttackLoss]:
        """Return the loss of each run, and the one that compares what runs found, which may be the first of them."""

    def begin(self, ball: Ball, generator: torch.Generator) -> Tensor:
        """Return the first inputs of a run."""
        return ball.draw(generator)

    def search(
        self,
        logits_fn: LogitsFn,
        x: Tensor,
        y: Tensor,
        *,
        eps: float | Tensor,
        generator: torch.Generator,
        start: Tensor | None = None,
        standing: Tensor | None = None,
    ) -> Tensor:
        """Make the runs and return the strongest inputs; with `standing`, of those images until they are broken."""
        from trainables.attacks.ascent import Ball, Kept, ascend

        ball, kept = Ball(self.norm, x, eps), Kept(x)
        losses, judge = self.losses(logits_fn, x, y)
        for loss in losses if start is None else losses[:1]:
            # Drawn for all images, so that a draw does not depend on which stand.
            first = self.begin(ball, generator) if start is None else start
            if standing is None:
                found = ascend(logits_fn, self.climber(ball, first), loss, self.taken, judge=judge, sparing=False)
                kept.offer(found.inputs, found.broken, found.value)
                continue
            rows = (standing & ~kept.broken).nonzero()[:, 0]
            if not len(rows):
                break
            climber, own = self.climber(ball.select(rows), first[rows]), loss.select(rows)
            compared = own if judge is loss else judge.select(rows)
            found = ascend(logits_fn, climber, own, self.taken, judge=compared, sparing=True)
            kept.offer(found.inputs, found.broken, found.value, rows)
        return kept.inputs

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
        return self.search(logits_fn, x, y, eps=eps, generator=generator, start=start)

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
        return self.search(logits_fn, x, y, eps=eps, generator=generator, standing=standing)
