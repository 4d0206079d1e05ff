"""The ascent of a loss, step by step: what PGD and APGD share, with what was found on the way.

Source of APGD: Croce & Hein 2020, arXiv:2003.01690.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainables.attacks.geometry import choose, column, per_image, region
from trainables.attacks.gradients import input_gradient
from trainables.attacks.verdicts import wrong

if TYPE_CHECKING:
    from trainables.attacks.base import LogitsFn, Norm
    from trainables.attacks.losses import AttackLoss

_BROKEN = 8
"""Broken images are dropped once they are one in this many: smaller batches cost copies, and kernels of a new shape."""

_MOMENTUM, _RISES = 0.75, 0.75


@dataclass(frozen=True)
class Ball:
    """Images, and the ball around each of them. Shapes: x (N, ...) in [0, 1]; eps a number or (N,)."""

    norm: Norm
    x: Tensor
    eps: float | Tensor

    def select(self, rows: Tensor | slice) -> Ball:
        eps = self.eps[rows] if isinstance(self.eps, Tensor) and self.eps.dim() else self.eps
        return Ball(self.norm, self.x[rows], eps)

    def draw(self, generator: torch.Generator) -> Tensor:
        return region(self.norm, self.x, self.eps).draw(generator)


class Climber(ABC):
    """The inputs `z` (N, ...) of an ascent, and how they move. `size` is the first step's share of eps."""

    def __init__(self, ball: Ball, start: Tensor, size: float) -> None:
        self.ball, self.share = ball, size
        self.z = start.detach().clone()
        self.around = region(ball.norm, ball.x, ball.eps)
        self.size = per_image(size * ball.eps, ball.x)

    @abstractmethod
    def move(self, gradient: Tensor, value: Tensor) -> None:
        """Take a step, given the loss (N,) at `z` and its gradient (N, ...)."""

    def select(self, rows: Tensor) -> None:
        """Go on with these images alone."""
        self.ball = self.ball.select(rows)
        self.around = region(self.ball.norm, self.ball.x, self.ball.eps)
        self.z = self.z[rows]
        self.size = self.size[rows] if isinstance(self.size, Tensor) else self.size


class Steady(Climber):
    """Steps of one size."""

    def move(self, gradient: Tensor, value: Tensor) -> None:
        self.z = self.around.ascend(self.z, gradient, self.size)


class Adaptive(Climber):
    """APGD: momentum, and at checkpoints, where the loss rises too rarely, half the step size and back to the best."""

    def __init__(self, ball: Ball, start: Tensor, steps: int) -> None:
        super().__init__(ball, start, 2.0)
        n = len(ball.x)
        self.size = (2.0 * column(torch.as_tensor(ball.eps).to(ball.x).expand(n), ball.x)).clone()
        self.checkpoints, self.taken, self.since = checkpoints(steps), 0, 0
        self.before = self.z
        self.last = self.z.new_full((n,), torch.inf)
        self.best, self.best_gradient, self.highest = self.z.clone(), torch.zeros_like(self.z), -self.last
        self.rises = torch.zeros_like(self.last)
        self.highest_then, self.halved = self.highest, torch.ones_like(self.last, dtype=torch.bool)

    def move(self, gradient: Tensor, value: Tensor) -> None:
        gradient = gradient.to(self.z.dtype)
        better = value > self.highest
        shaped = column(better, self.z)
        self.best = torch.where(shaped, self.z, self.best)
        self.best_gradient = torch.where(shaped, gradient, self.best_gradient)
        self.highest = torch.fmax(value, self.highest)
        self.rises = self.rises + (value > self.last)
        self.last = value
        if self.taken == 0:
            self.highest_then = self.highest
        elif self.taken in self.checkpoints:
            gradient = self._check(gradient)
        self._step(gradient)
        self.taken += 1

    def _check(self, gradient: Tensor) -> Tensor:
        """Halve the step where the ascent stalls and go back to the best input; return the gradient to follow."""
        rarely = self.rises < _RISES * (self.taken - self.since)
        stalled = rarely | (~self.halved & (self.highest <= self.highest_then))
        shaped = column(stalled, self.z)
        self.size = torch.where(shaped, self.size / 2, self.size)
        self.z = torch.where(shaped, self.best, self.z)
        self.halved, self.highest_then = stalled, self.highest
        self.rises, self.since = torch.zeros_like(self.rises), self.taken
        return torch.where(shaped, self.best_gradient, gradient)

    def _step(self, gradient: Tensor) -> None:
        z = self.z
        ahead = self.around.ascend(z.clone(), gradient, self.size)
        if self.taken > 0:
            ahead = self.around.project(torch.lerp(z, ahead, _MOMENTUM).add_(z - self.before, alpha=1 - _MOMENTUM))
        self.before, self.z = z, ahead

    def select(self, rows: Tensor) -> None:
        super().select(rows)
        for name in ("before", "last", "best", "best_gradient", "highest", "rises", "highest_then", "halved"):
            setattr(self, name, getattr(self, name)[rows])


@cache
def checkpoints(steps: int) -> frozenset[int]:
    """Return after which of its steps APGD looks back: first after 22 %, then sooner and sooner."""
    ends, length = [0.22], 0.22
    while ends[-1] < 1:
        length = max(length - 0.03, 0.06)
        ends.append(ends[-1] + length)
    # Rounded first: 0.57 * 100 is above 57.
    return frozenset(ceil(round(end * steps, 6)) for end in ends if end < 1)


class Kept:
    """The strongest input of each image so far: a misclassified one before others, then that of the highest loss."""

    def __init__(self, x: Tensor) -> None:
        self.inputs = x.clone()
        self.broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.value = torch.full((len(x),), -torch.inf, device=x.device)

    def offer(self, inputs: Tensor, broken: Tensor, value: Tensor) -> None:
        """Take inputs (N, ...) with their verdicts and losses (N,) where they are stronger."""
        value = value.to(self.value)
        stronger = (broken & ~self.broken) | ((broken == self.broken) & (value > self.value))
        self.inputs = choose(stronger, inputs.to(self.inputs), self.inputs)
        self.value = torch.where(stronger, value, self.value)
        self.broken = self.broken | broken


def ascend(logits_fn: LogitsFn, climber: Climber, loss: AttackLoss, steps: int, judge: AttackLoss) -> Kept:
    """Climb `loss` and return the strongest inputs on the way, by `judge`.

    `steps` gradients are taken of every image, and one forward pass more.
    """
    kept = Kept(climber.z)
    for _ in range(steps):
        gradient, value, logits = differentiate(logits_fn, climber.z, loss)
        kept.offer(climber.z, wrong(logits, loss.labels), value if judge is loss else judge.value(logits))
        climber.move(gradient, value)
    with torch.no_grad():
        logits = logits_fn(climber.z)
    kept.offer(climber.z, wrong(logits, loss.labels), judge.value(logits))
    return kept


def chase(logits_fn: LogitsFn, climber: Climber, loss: AttackLoss, steps: int) -> tuple[Tensor, Tensor]:
    """Climb `loss` until images are broken; return the last inputs (N, ...), of broken images misclassified, and which.

    The verdicts (N,) are those of `ascend`, for fewer gradients.
    """
    found = climber.z.clone()
    broken = torch.zeros(len(found), dtype=torch.bool, device=found.device)
    # Of the images that are left: their places in the batch, and what was found for them.
    rows, inputs, gone = torch.arange(len(found), device=found.device), climber.z, broken
    for _ in range(steps):
        gradient, value, logits = differentiate(logits_fn, climber.z, loss)
        now = wrong(logits, loss.labels)
        inputs, gone = choose(now, climber.z, inputs), gone | now
        if _BROKEN * int(gone.sum()) >= len(rows):
            found[rows], broken[rows] = inputs, gone
            left = (~gone).nonzero()[:, 0]
            if not len(left):
                return found, broken
            rows, inputs, gone = rows[left], inputs[left], gone[left]
            climber.select(left)
            gradient, value, loss = gradient[left], value[left], loss.select(left)
        climber.move(gradient, value)
    with torch.no_grad():
        now = wrong(logits_fn(climber.z), loss.labels)
    found[rows], broken[rows] = choose(now | ~gone, climber.z, inputs), gone | now
    return found, broken


def differentiate(logits_fn: LogitsFn, z: Tensor, loss: AttackLoss) -> tuple[Tensor, Tensor, Tensor]:
    """Return a loss's gradient by the inputs (N, ...), its value (N,) and the logits (N, K), from one pass.

    Of a `logits_fn` that averages over passes, these are the means, of the logits the logarithm of mean probabilities.
    """
    passes: list[tuple[Tensor, Tensor]] = []

    def slope(logits: Tensor) -> Tensor:
        value, by_logits = loss.both(logits.detach())
        passes.append((value, logits.detach()))
        return by_logits

    gradient = input_gradient(logits_fn, z, slope)
    if len(passes) == 1:
        return gradient, *passes[0]
    value = torch.stack([value for value, _ in passes]).mean(dim=0)
    return gradient, value, torch.stack([logits.float().log_softmax(dim=1) for _, logits in passes]).logsumexp(dim=0)
