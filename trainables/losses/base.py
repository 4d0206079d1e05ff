"""The tensor side of the training losses: what is attacked, and what is descended.

Batch norm's statistics follow from which images go through `forward`, the network in train mode: clean
ones (natural), adversarial ones (Madry), or both, clean first, each as a batch of its own (mix, TRADES, MART).
The attack asks another function, the network in eval mode, and moves no statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.attacks import run
from trainables.attacks.base import Attack, LogitsFn
from trainables.method.training import AttackLabels, Loss, Madry, Mart, Mix, Natural, Trades

TRADES_START = 1e-3
"""Standard deviation of the noise from which TRADES' attack starts: at the clean image itself the KL has no slope."""


@dataclass(frozen=True)
class Adversary:
    """An attack on the network as it stands, ready to be called on a batch."""

    attack: Attack
    logits_fn: LogitsFn
    eps: float
    generator: torch.Generator
    labels: AttackLabels = "true"

    def __call__(self, x: Tensor, y: Tensor, start: Tensor | None = None) -> Tensor:
        """Attack a batch; class indices `y` may be replaced by the network's own, probabilities never are."""
        if self.labels == "predicted" and not y.is_floating_point():
            with torch.no_grad():
                y = self.logits_fn(x).argmax(dim=1)
        return run(self.attack, self.logits_fn, x, y, eps=self.eps, generator=self.generator, keep="last", start=start)


@dataclass(frozen=True)
class Terms:
    """A loss, and the logits of the images that were trained on: the adversarial ones, if there are any."""

    loss: Tensor
    logits: Tensor


@singledispatch
def terms(loss: Loss, forward: LogitsFn, adversary: Adversary, x: Tensor, y: Tensor, smoothing: float) -> Terms:
    """Return the training loss of a batch, averaged over its images.

    `forward` is differentiated with respect to the weights; `smoothing` softens the labels of the
    cross-entropy, not those that the attack climbs.
    """
    raise NotImplementedError(f"no way to compute a loss of kind {loss.kind}")


@terms.register
def _natural(loss: Natural, forward: LogitsFn, adversary: Adversary, x: Tensor, y: Tensor, smoothing: float) -> Terms:
    logits = forward(x).float()
    return Terms(F.cross_entropy(logits, y, label_smoothing=smoothing), logits)


@terms.register
def _madry(loss: Madry, forward: LogitsFn, adversary: Adversary, x: Tensor, y: Tensor, smoothing: float) -> Terms:
    logits = forward(adversary(x, y)).float()
    return Terms(F.cross_entropy(logits, y, label_smoothing=smoothing), logits)


@terms.register
def _mix(loss: Mix, forward: LogitsFn, adversary: Adversary, x: Tensor, y: Tensor, smoothing: float) -> Terms:
    found = adversary(x, y)
    clean = F.cross_entropy(forward(x).float(), y, label_smoothing=smoothing)
    logits = forward(found).float()
    adversarial = F.cross_entropy(logits, y, label_smoothing=smoothing)
    return Terms(loss.weight * clean + (1 - loss.weight) * adversarial, logits)


@terms.register
def _trades(loss: Trades, forward: LogitsFn, adversary: Adversary, x: Tensor, y: Tensor, smoothing: float) -> Terms:
    with torch.no_grad():
        surrogate = adversary.logits_fn(x).softmax(dim=1)
    noise = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    noise.normal_(std=TRADES_START, generator=adversary.generator)
    # The cross-entropy with soft labels is KL(clean || adversarial) plus what the attack cannot change.
    found = adversary(x, surrogate, start=(x + noise).clamp_(0, 1))
    clean = forward(x).float()
    logits = forward(found).float()
    divergence = F.kl_div(
        F.log_softmax(logits, dim=1), F.log_softmax(clean, dim=1), reduction="batchmean", log_target=True
    )
    return Terms(F.cross_entropy(clean, y, label_smoothing=smoothing) + loss.beta * divergence, logits)


@terms.register
def _mart(loss: Mart, forward: LogitsFn, adversary: Adversary, x: Tensor, y: Tensor, smoothing: float) -> Terms:
    found = adversary(x, y)
    clean = F.log_softmax(forward(x).float(), dim=1)
    logits = forward(found).float()
    adversarial = F.log_softmax(logits, dim=1)
    rival = adversarial.detach().scatter(1, y[:, None], -torch.inf).argmax(dim=1, keepdim=True)
    # One less the rival's probability is the sum of all others: in logarithms that is exact however sure the network
    # is.
    margin = -adversarial.scatter(1, rival, -torch.inf).logsumexp(dim=1).mean()
    boosted = F.cross_entropy(logits, y, label_smoothing=smoothing) + margin
    divergence = F.kl_div(adversarial, clean, reduction="none", log_target=True).sum(dim=1)
    doubt = 1 - clean.gather(1, y[:, None]).squeeze(1).exp()
    return Terms(boosted + loss.beta * (divergence * doubt).mean(), logits)
