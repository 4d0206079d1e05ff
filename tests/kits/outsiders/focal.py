"""A loss: focal loss on adversarial images."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from trainables.losses import LOSSES
from trainables.losses.base import Loss, Terms


class Focal(Loss):
    """Cross-entropy weighted by (1 - p)^gamma, p being the probability of the true class. Source: arXiv:1708.02002."""

    kind: Literal["focal_of_test"] = "focal_of_test"
    gamma: float = Field(default=2.0, ge=0)

    def terms(self, forward: Any, adversary: Any, x: Any, y: Any, smoothing: float) -> Terms:
        from torch.nn.functional import cross_entropy

        logits = forward(adversary(x, y)).float()
        losses = cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)
        p = logits.softmax(dim=1).gather(1, y[:, None]).squeeze(1)
        return Terms((losses * (1 - p) ** self.gamma).mean(), logits)


LOSSES.register("focal_of_test", Focal)
