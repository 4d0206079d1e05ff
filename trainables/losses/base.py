"""What a training loss is: what is attacked, and what is descended.

Batch norm's statistics follow from which images go through `forward`, the network in train mode: clean ones
(natural), adversarial ones (Madry), or both, clean first, each as a batch of its own (mix, TRADES, MART).
The attack queries another function, the network in eval mode, and moves no statistics.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainables.attacks import run
from trainables.attacks.base import Attack, AttackLabels, LogitsFn
from trainables.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Adversary:
    """An attack on the network as it stands, ready to be called on a batch.

    Units: eps in pixel units of [0, 1].
    """

    attack: Attack
    logits_fn: LogitsFn
    eps: float
    generator: torch.Generator
    labels: AttackLabels = "true"

    def __call__(self, x: Tensor, y: Tensor, start: Tensor | None = None) -> Tensor:
        """Return adversarial images; class indices `y` may be replaced by the network's own, probabilities never are.

        Shapes: x, start and the result (N, C, H, W) in [0, 1]; y (N,) class indices or (N, classes) probabilities.
        """
        import torch

        if self.labels == "predicted" and not y.is_floating_point():
            with torch.no_grad():
                y = self.logits_fn(x).argmax(dim=1)
        return run(self.attack, self.logits_fn, x, y, eps=self.eps, generator=self.generator, keep="last", start=start)


@dataclass(frozen=True)
class Terms:
    """A loss, and the logits of the images trained on: the adversarial ones, if there are any.

    Shapes: loss (), logits (N, classes).
    """

    loss: Tensor
    logits: Tensor


class Loss(Spec):
    """Base of every training loss; `attacks` says whether it ever calls the adversary."""

    kind: str

    attacks: ClassVar[bool] = True

    @abstractmethod
    def terms(self, forward: LogitsFn, adversary: Adversary, x: Tensor, y: Tensor, smoothing: float) -> Terms:
        """Return the training loss of a batch, averaged over its images, and their logits.

        `forward` is the network in train mode, differentiable in the weights. `smoothing` softens the labels of the
        cross-entropy, not those that the attack climbs.

        Shapes: x (N, C, H, W) in [0, 1]; y (N,) class indices.
        """
