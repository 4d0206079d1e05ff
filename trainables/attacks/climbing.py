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

    @property
    def takes_parts(self) -> bool:
        return type(self).hunt is Climbing.hunt

    @abstractmethod
    def climber(self, ball: Ball, start: Tensor) -> Climber:
        """Return how a run moves, from its first inputs (N, ...)."""

    @abstractmethod
    def losses(self, logits_fn: LogitsFn, x: Tensor, y: Tensor) -> tuple[list[AttackLoss], AttackLoss]:
        """Return the loss of each run, and the one that compares what runs found, which may be the first of them."""

    def begin(self, ball: Ball, generator: torch.Generator) -> Tensor:
        """Return the first inputs of a run."""
        return ball.draw(generator)

    def _begin_parts(self, ball: Ball, generator: torch.Generator) -> Tensor:
        """Do what `begin` does, for each part of the batch by itself."""
        import torch

        from trainables.attacks.parts import Parts

        if not isinstance(generator, Parts):
            return self.begin(ball, generator)
        return torch.cat([self.begin(ball.select(part), own) for part, own in generator])

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
        from trainables.attacks.ascent import Ball, Kept, ascend

        ball, kept = Ball(self.norm, x, eps), Kept(x)
        losses, judge = self.losses(logits_fn, x, y)
        for loss in losses if start is None else losses[:1]:
            first = self.begin(ball, generator) if start is None else start
            found = ascend(logits_fn, self.climber(ball, first), loss, self.taken, judge)
            kept.offer(found.inputs, found.broken, found.value)
        return kept.inputs

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
        from trainables.attacks.ascent import Ball, chase

        ball, inputs = Ball(self.norm, x, eps), x.clone()
        losses, _ = self.losses(logits_fn, x, y)
        rows = standing.nonzero()[:, 0]
        for loss in losses:
            # Drawn for all images, so that a draw does not depend on which stand.
            first = self._begin_parts(ball, generator)[rows]
            found, broken = chase(logits_fn, self.climber(ball.select(rows), first), loss.select(rows), self.taken)
            inputs[rows] = found
            rows = rows[~broken]
            if not len(rows):
                break
        return inputs
