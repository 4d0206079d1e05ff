"""Cross-entropy on clean images, on adversarial ones, or on both."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainables.losses.base import Adversary, Loss, Terms

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.attacks.base import LogitsFn


class Natural(Loss):
    """Cross-entropy on clean images: no adversarial training."""

    kind: Literal["natural"] = "natural"

    attacks: ClassVar[bool] = False

    def terms(self, forward: LogitsFn, adversary: Adversary, x: Tensor, y: Tensor, smoothing: float) -> Terms:
        from torch.nn.functional import cross_entropy

        logits = forward(x).float()
        return Terms(cross_entropy(logits, y, label_smoothing=smoothing), logits)


class Madry(Loss):
    """Cross-entropy on adversarial images alone. Source: Madry et al. 2018, arXiv:1706.06083."""

    kind: Literal["madry"] = "madry"

    def terms(self, forward: LogitsFn, adversary: Adversary, x: Tensor, y: Tensor, smoothing: float) -> Terms:
        from torch.nn.functional import cross_entropy

        logits = forward(adversary(x, y)).float()
        return Terms(cross_entropy(logits, y, label_smoothing=smoothing), logits)


class Mix(Loss):
    """A weighted mean of clean and adversarial cross-entropy. Source: Goodfellow et al. 2015, arXiv:1412.6572."""

    kind: Literal["mix"] = "mix"
    weight: float = Field(default=0.5, ge=0, le=1, description="share of the clean cross-entropy")

    def terms(self, forward: LogitsFn, adversary: Adversary, x: Tensor, y: Tensor, smoothing: float) -> Terms:
        from torch.nn.functional import cross_entropy

        found = adversary(x, y)
        clean = cross_entropy(forward(x).float(), y, label_smoothing=smoothing)
        logits = forward(found).float()
        adversarial = cross_entropy(logits, y, label_smoothing=smoothing)
        return Terms(self.weight * clean + (1 - self.weight) * adversarial, logits)
