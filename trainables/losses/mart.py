"""MART: more weight on images that the network gets wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.losses.base import Adversary, Loss, Terms

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.attacks.base import LogitsFn


class Mart(Loss):
    """Boosted cross-entropy on adversarial images plus `beta` times a weighted KL(clean || adversarial).

    The boost is -log(1 - p), p being the largest adversarial probability of another class. The divergence of an image
    is weighted by 1 minus the clean probability of its class. The default of `beta` is that of the pruners' codes.
    Source: Wang et al. 2020, "Improving adversarial robustness requires revisiting misclassified examples", ICLR.
    """

    kind: Literal["mart"] = "mart"
    beta: float = Field(default=5.0, ge=0, description="weight of the divergence")

    def terms(self, forward: LogitsFn, adversary: Adversary, x: Tensor, y: Tensor, smoothing: float) -> Terms:
        import torch
        import torch.nn.functional as F

        found = adversary(x, y)
        clean = F.log_softmax(forward(x).float(), dim=1)
        logits = forward(found).float()
        adversarial = F.log_softmax(logits, dim=1)
        rival = adversarial.detach().scatter(1, y[:, None], -torch.inf).argmax(dim=1, keepdim=True)
        # 1 minus the rival's probability is the sum of all others: in logarithms that is exact however sure the
        # network is.
        margin = -adversarial.scatter(1, rival, -torch.inf).logsumexp(dim=1).mean()
        boosted = F.cross_entropy(logits, y, label_smoothing=smoothing) + margin
        divergence = F.kl_div(adversarial, clean, reduction="none", log_target=True).sum(dim=1)
        uncertainty = 1 - clean.gather(1, y[:, None]).squeeze(1).exp()
        return Terms(boosted + self.beta * (divergence * uncertainty).mean(), logits)
