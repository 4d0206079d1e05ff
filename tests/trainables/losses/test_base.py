"""Training losses against their formulas."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.attacks.pgd import Pgd
from trainables.losses import LOSSES
from trainables.losses.base import Adversary, Loss
from trainables.losses.cross_entropy import Madry, Mix, Natural
from trainables.losses.mart import Mart
from trainables.losses.trades import Trades


class Fixed:
    """Stands in for an adversary: returns a given batch and remembers what it was asked for."""

    def __init__(self, found: Tensor, logits_fn: Any) -> None:
        self.found, self.logits_fn = found, logits_fn
        self.generator = torch.Generator().manual_seed(3)
        self.asked: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def __call__(self, x: Tensor, y: Tensor, start: Tensor | None = None) -> Tensor:
        self.asked.append((x, y, start))
        return self.found


@pytest.fixture
def setup() -> tuple[nn.Module, Tensor, Tensor, Fixed]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    x, found = torch.rand(5, 3, 2, 2), torch.rand(5, 3, 2, 2)
    return model, x, torch.tensor([0, 1, 2, 3, 0]), Fixed(found, model)


def cross_entropy(logits: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """Write it out: the labels share `smoothing` with all classes."""
    classes = logits.shape[1]
    target = F.one_hot(y, classes) * (1 - smoothing) + smoothing / classes
    return -(target * logits.log_softmax(1)).sum(1).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_follow_their_formulas(setup: Any, smoothing: float) -> None:
    model, x, y, adversary = setup
    clean, adversarial = (cross_entropy(model(z), y, smoothing) for z in (x, adversary.found))
    p, q = model(x).softmax(1), model(adversary.found).softmax(1)
    divergence = (p * (p.log() - q.log())).sum(1).mean()
    wrong = q.clone()
    wrong[torch.arange(5), y] = 0
    true = p[torch.arange(5), y]
    weighted_divergence = ((p * (p.log() - q.log())).sum(1) * (1 - true)).mean()
    boosted = adversarial - (1 - wrong.max(1).values).log().mean()
    wanted = {
        Mart(beta=3.0): boosted + 3 * weighted_divergence,
        Natural(): clean,
        Madry(): adversarial,
        Mix(weight=0.3): 0.3 * clean + 0.7 * adversarial,
        Trades(beta=4.0): clean + 4 * divergence,
    }
    for spec, value in wanted.items():
        found = spec.terms(model, adversary, x, y, smoothing)
        torch.testing.assert_close(found.loss, value)
        torch.testing.assert_close(found.logits, model(x if spec == Natural() else adversary.found))
        mine, theirs = (
            torch.autograd.grad(t, list(model.parameters()), retain_graph=True) for t in (found.loss, value)
        )
        torch.testing.assert_close(mine, theirs)
    assert {type(spec) for spec in wanted} == set(LOSSES.values())


def test_what_is_attacked(setup: Any) -> None:
    model, x, y, adversary = setup
    Natural().terms(model, adversary, x, y, 0.1)
    assert adversary.asked == []
    for spec in (Madry(), Mix()):
        spec.terms(model, adversary, x, y, 0.1)
        attacked, label, start = adversary.asked.pop()
        assert torch.equal(attacked, x)
        assert torch.equal(label, y), "the true label, not a smoothed one"
        assert start is None
    Trades().terms(model, adversary, x, y, 0.1)
    attacked, clean_probabilities, start = adversary.asked.pop()
    assert torch.equal(attacked, x)
    torch.testing.assert_close(clean_probabilities, model(x).softmax(1))
    assert not clean_probabilities.requires_grad
    assert start is not None
    assert 0 < float((start - x).abs().max()) < 0.01


def test_trades_attack_raises_the_divergence(setup: Any) -> None:
    model, x, _, _ = setup
    adversary = Adversary(Pgd(steps=10), model, 0.1, torch.Generator().manual_seed(0))
    clean_probabilities = model(x).softmax(1).detach()
    found = adversary(x, clean_probabilities, start=(x + 1e-3).clamp(0, 1))

    def divergence(z: Tensor) -> Tensor:
        return F.kl_div(model(z).log_softmax(1), clean_probabilities, reduction="none").sum(1)

    assert bool((divergence(found) > divergence(x) + 1e-4).all())
    assert float((found - x).abs().max()) <= 0.1 + 1e-6


def test_a_loss_that_computes_nothing_is_none() -> None:
    class Other(Loss):
        kind: Literal["other"] = "other"

    with pytest.raises(TypeError, match="terms"):
        Other()
    with pytest.raises(ValueError, match=r"loss 'other': .*Other does not define `terms`"):
        LOSSES.register("other", Other)


def test_mart_is_finite_where_the_network_is_surely_wrong() -> None:
    logits = torch.tensor([[200.0, 0.0, -50.0]], requires_grad=True)
    y = torch.tensor([1])
    found = Mart().terms(lambda x: logits, Fixed(torch.zeros(1, 1), None), torch.zeros(1, 1), y, 0.0)  # type: ignore[arg-type]
    torch.testing.assert_close(found.loss, torch.tensor(400.0))
    found.loss.backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
