"""Losses that attacks ascend, with their gradients by the logits written out.

Written out, a gradient costs no autograd graph on the logits, and an attack reads value and verdict from the same pass.
Logits are (N, K), labels (N,) class indices or (N, K) probabilities, values (N,), gradients (N, K).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor

from trainables.attacks.base import LossName
from trainables.attacks.standing import classes

_LEAST = 1e-12
"""Added to the scale of DLR, which is 0 where the largest logits are equal."""


class AttackLoss(ABC):
    """A loss of each image by itself, for fixed labels."""

    def __init__(self, y: Tensor) -> None:
        self.y = y
        self.labels = classes(y)

    @abstractmethod
    def value(self, logits: Tensor) -> Tensor:
        """Return the loss of each image, in float32 or better."""

    @abstractmethod
    def slope(self, logits: Tensor) -> Tensor:
        """Return the gradient of the values' sum by the logits, in their type."""

    def both(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and slope."""
        return self.value(logits), self.slope(logits)

    def select(self, rows: Tensor) -> Self:
        """Return the loss of these images alone."""
        return type(self)(self.y[rows])


class CrossEntropy(AttackLoss):
    """The cross-entropy; for probabilities, up to a constant their KL divergence to the prediction."""

    def __init__(self, y: Tensor) -> None:
        super().__init__(y)
        self._wanted: Tensor | None = None

    def value(self, logits: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(logits.float(), self.y, reduction="none")

    def slope(self, logits: Tensor) -> Tensor:
        if self._wanted is None:
            self._wanted = self.y if self.y.is_floating_point() else _one_hot(self.y, logits.shape[1])
        # The softmax too: for ten classes torch's own takes twice the time.
        powers = (logits.float() - logits.amax(dim=1, keepdim=True)).exp_()
        return powers.div_(powers.sum(dim=1, keepdim=True)).sub_(self._wanted).to(logits.dtype)


def _one_hot(y: Tensor, classes: int) -> Tensor:
    """Return one-hot labels (N, classes), float32; torch's own waits for the labels, which it checks."""
    return torch.zeros(len(y), classes, device=y.device).scatter_(1, y[:, None], 1.0)


class Lead(AttackLoss):
    """Base of losses that are a lead over the true logit, as it is or scaled by the largest logits."""

    largest: ClassVar[int] = 2
    """How many of the largest logits a loss looks at; with fewer classes it is the lead as it is."""

    def value(self, logits: Tensor) -> Tensor:
        return self._parts(logits.float())[0][:, 0]

    def slope(self, logits: Tensor) -> Tensor:
        return self.both(logits)[1]

    def both(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        whole = logits.float()
        value, index, weights = self._parts(whole)
        # Added up, because a class may be in several places.
        slope = torch.zeros_like(whole).scatter_add_(1, index, weights.expand(index.shape))
        return value[:, 0], slope.to(logits.dtype)

    def _parts(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `scaled` does, of logits (N, K) in full precision; with too few classes, the lead as it is."""
        top, order = logits.topk(min(self.largest, logits.shape[1]), dim=1)
        pair = self.pair(order)
        two = logits.gather(1, pair)
        lead = two[:, :1] - two[:, 1:]
        if logits.shape[1] < self.largest:
            return lead, pair, self._signs(lead)
        return self.scaled(lead, pair, top, order)

    def pair(self, order: Tensor) -> Tensor:
        """Return the class whose lead it is and the true one, (N, 2): the first in order (N, 2 or more) that is not."""
        ahead = torch.where(order[:, 0] == self.labels, order[:, 1], order[:, 0])
        return torch.stack([ahead, self.labels], dim=1)

    def scaled(self, lead: Tensor, pair: Tensor, top: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss (N, 1), the classes (N, P) that it depends on, and the derivatives by their logits.

        Shapes: lead (N, 1); pair (N, 2), the class that is ahead and the true one; top and order (N, largest).
        """
        return lead, pair, self._signs(lead)

    @staticmethod
    def _signs(like: Tensor) -> Tensor:
        return like.new_tensor([[1.0, -1.0]])


def lead(logits: Tensor, y: Tensor) -> Tensor:
    """Return by how much the logit of `y` exceeds all others, (N,), for logits (N, K) and class indices (N,)."""
    place = y[:, None]
    return logits.gather(1, place)[:, 0] - logits.scatter(1, place, -torch.inf).amax(dim=1)


class Margin(Lead):
    """The largest other logit minus that of the true class: above 0 where an input is misclassified.

    Unlike the cross-entropy's, its gradient does not fade where a network is confident. Source: Carlini & Wagner 2017,
    arXiv:1608.04644.
    """


class Dlr(Lead):
    """The margin as a share of the gap between the largest and the third largest logit; below 3 classes, the margin.

    The share does not change with the scale of the logits. Source: Croce & Hein 2020, arXiv:2003.01690.
    """

    largest = 3

    def scaled(self, lead: Tensor, pair: Tensor, top: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scale = (top[:, :1] - top[:, 2:] + _LEAST).reciprocal_()
        value = lead * scale
        by_top = value * scale
        index = torch.cat([pair, order[:, :1], order[:, 2:]], dim=1)
        return value, index, torch.cat([scale, -scale, -by_top, by_top], dim=1)


class TargetedDlr(Lead):
    """The lead of a class over the true one, scaled by the largest, third and fourth logits; below 4 classes the lead.

    Source: Croce & Hein 2020, arXiv:2003.01690.
    """

    largest = 4

    def __init__(self, y: Tensor, targets: Tensor) -> None:
        """Take the labels and the classes (N,) that are to win."""
        super().__init__(y)
        self.targets = targets
        self._pair = torch.stack([targets, self.labels], dim=1)

    def select(self, rows: Tensor) -> Self:
        return type(self)(self.y[rows], self.targets[rows])

    def pair(self, order: Tensor) -> Tensor:
        return self._pair

    def scaled(self, lead: Tensor, pair: Tensor, top: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scale = (top[:, :1] - (top[:, 2:3] + top[:, 3:]) / 2 + _LEAST).reciprocal_()
        value = lead * scale
        by_top = value * scale
        half = by_top / 2
        index = torch.cat([pair, order[:, :1], order[:, 2:]], dim=1)
        return value, index, torch.cat([scale, -scale, -by_top, half, half], dim=1)


LOSSES: dict[LossName, type[AttackLoss]] = {"ce": CrossEntropy, "margin": Margin, "dlr": Dlr}
