"""TRADES: accuracy on clean images against agreement on adversarial ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.losses.base import Adversary, Loss, Terms

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.attacks.base import LogitsFn

START = 1e-3
"""Standard deviation of the noise from which the attack starts: at the clean image itself the KL has no slope."""


class Trades(Loss):
    """Clean cross-entropy plus `beta` times KL(clean || adversarial); the attack climbs the KL.

    Source: Zhang et al. 2019, arXiv:1901.08573.
    """

    kind: Literal["trades"] = "trades"
    beta: float = Field(default=6.0, ge=0, description="weight of the divergence")

    def terms(self, forward: LogitsFn, adversary: Adversary, x: Tensor, y: Tensor, smoothing: float) -> Terms:
        import torch
        import torch.nn.functional as F

        with torch.no_grad():
            clean_probabilities = adversary.logits_fn(x).softmax(dim=1)
        noise = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        noise.normal_(std=START, generator=adversary.generator)
        # The cross-entropy with soft labels is KL(clean || adversarial) plus what the attack cannot change.
        found = adversary(x, clean_probabilities, start=(x + noise).clamp_(0, 1))
        clean = forward(x).float()
        logits = forward(found).float()
        divergence = F.kl_div(
            F.log_softmax(logits, dim=1), F.log_softmax(clean, dim=1), reduction="batchmean", log_target=True
        )
        return Terms(F.cross_entropy(clean, y, label_smoothing=smoothing) + self.beta * divergence, logits)
