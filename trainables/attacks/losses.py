"""Losses that attacks ascend, with their gradients by the logits written out.

Written out, a gradient costs no autograd graph on the logits, and an attack reads value and verdict from the same pass.
Logits are (N, K), labels (N,) class indices or (N, K) probabilities, values (N,), gradients (N, K).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from trainables.attacks.base import LossName
from trainables.attacks.standing import classes

_LEAST = 1e-12
"""Added to the scale of DLR, which is 0 where the largest logits are equal."""


class AttackLoss(ABC):
    """A loss of each image by itself, for fixed labels."""

    def __init__(self, y: Tensor) -> None:
        self.y = y

    @property
    def labels(self) -> Tensor:
        """The true classes (N,): of probabilities, the most probable ones."""
        return classes(self.y)

    @abstractmethod
    def value(self, logits: Tensor) -> Tensor:
        """Return the loss of each image, in float32 or better."""

    @abstractmethod
    def slope(self, logits: Tensor) -> Tensor:
        """Return the gradient of the values' sum by the logits, in their type."""

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
            y = self.y
            self._wanted = y if y.is_floating_point() else one_hot(y, logits.shape[1]).float()
        # The softmax too: for ten classes torch's own takes twice the time.
        powers = (logits.float() - logits.amax(dim=1, keepdim=True)).exp_()
        return powers.div_(powers.sum(dim=1, keepdim=True)).sub_(self._wanted).to(logits.dtype)


class Margin(AttackLoss):
    """The largest other logit minus that of the true class: above 0 where an input is misclassified.

    Unlike the cross-entropy's, its gradient does not fade where a network is confident. Source: Carlini & Wagner 2017,
    arXiv:1608.04644 §V.A, f6.
    """

    def value(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        return logits.gather(1, self._rivals(logits)).sub(logits.gather(1, self.labels[:, None]))[:, 0]

    def slope(self, logits: Tensor) -> Tensor:
        return _difference(logits, self._rivals(logits), self.labels[:, None]).to(logits.dtype)

    def _rivals(self, logits: Tensor) -> Tensor:
        """Return the classes (N, 1) of the largest other logits."""
        return logits.scatter(1, self.labels[:, None], -torch.inf).argmax(dim=1, keepdim=True)


def _difference(logits: Tensor, ahead: Tensor, behind: Tensor) -> Tensor:
    """Return, in float32, 1 at the classes `ahead` (N, 1) minus 1 at those `behind` (N, 1), shaped like the logits."""
    ones = torch.ones_like(ahead, dtype=torch.float32)
    return torch.zeros_like(logits, dtype=torch.float32).scatter_add_(1, ahead, ones).scatter_add_(1, behind, -ones)


class Dlr(Margin):
    """The margin as a share of the gap between the largest and the third largest logit; below 3 classes, the margin.

    The share does not change with the scale of the logits. Source: Croce & Hein 2020, arXiv:2003.01690 §4, eq. 6.
    """

    least_classes = 3

    def value(self, logits: Tensor) -> Tensor:
        margin = super().value(logits)
        return margin if logits.shape[1] < self.least_classes else margin / self._scale(logits.float())[0][:, 0]

    def slope(self, logits: Tensor) -> Tensor:
        """Return ((r - y) - value (scale's gradient)) / scale, r and y the unit vectors of rival and true class."""
        if logits.shape[1] < self.least_classes:
            return super().slope(logits)
        whole = logits.float()
        rivals = self._rivals(whole)
        scale, by_logits = self._scale(whole)
        labels = self.labels[:, None]
        value = (whole.gather(1, rivals) - whole.gather(1, labels)) / scale
        return ((_difference(whole, rivals, labels) - value * by_logits) / scale).to(logits.dtype)

    def _scale(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the margin is divided by (N, 1) and its gradient (N, K)."""
        largest, order = logits.topk(3, dim=1)
        return largest[:, :1] - largest[:, 2:] + _LEAST, _difference(logits, order[:, :1], order[:, 2:])


class TargetedDlr(Dlr):
    """The lead of a class over the true one, scaled by the largest, third and fourth logits; below 4 classes the lead.

    Source: Croce & Hein 2020, arXiv:2003.01690 §4, eq. 7.
    """

    least_classes = 4

    def __init__(self, y: Tensor, targets: Tensor) -> None:
        """Take the labels and the classes (N,) that are to win."""
        super().__init__(y)
        self.targets = targets

    def select(self, rows: Tensor) -> Self:
        return type(self)(self.y[rows], self.targets[rows])

    def _rivals(self, logits: Tensor) -> Tensor:
        return self.targets[:, None]

    def _scale(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        largest, order = logits.topk(4, dim=1)
        scale = largest[:, :1] - (largest[:, 2:3] + largest[:, 3:]) / 2 + _LEAST
        third, fourth = (_difference(logits, order[:, :1], order[:, i : i + 1]) for i in (2, 3))
        return scale, (third + fourth) / 2


LOSSES: dict[LossName, type[AttackLoss]] = {"ce": CrossEntropy, "margin": Margin, "dlr": Dlr}
