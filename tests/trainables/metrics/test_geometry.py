"""Distances, margins and Lipschitz constants of affine classifiers, where they are known; and of what is active."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from trainables.attacks.minimal import DeepFool
from trainables.attacks.pgd import Pgd
from trainables.metrics.activations import Activations
from trainables.metrics.base import MetricContext
from trainables.metrics.distance import Distance
from trainables.metrics.lipschitz import Lipschitz
from trainables.models.activations import TopK, activity, recorded
from trainables.store.state import State


def context(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> MetricContext:
    correct = net(x).argmax(dim=1) == y
    state = State.of(net)
    return MetricContext(
        net, state, x, y, 0.1, "linf", correct, correct, lambda: state, torch.Generator().manual_seed(0)
    )


@pytest.fixture
def affine() -> MetricContext:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval().requires_grad_(False)
    net[1].bias -= net[1](torch.full((1, 16), 0.5))[0]
    x = torch.rand(40, 1, 4, 4) * 0.2 + 0.4
    return context(net, x, torch.randint(2, (40,)))


@pytest.mark.slow
def test_distance_is_the_margin_over_the_gradient_s_length(affine: MetricContext) -> None:
    weight = affine.net[1].weight  # type: ignore[index]
    difference = (weight[0] - weight[1]).norm()
    logits = affine.net(affine.x)
    margin = (1 - 2 * affine.y) * (logits[:, 0] - logits[:, 1])
    lengths = margin.clamp_min(0) / difference
    found = Distance(examples=None).values(affine)
    assert found["r_2"] == pytest.approx(float(lengths.mean()), rel=0.02)
    assert found["r_2_deepfool"] == pytest.approx(1.02 * float(lengths.mean()), rel=0.01)
    assert found["r_2_correct"] == pytest.approx(float(lengths[margin > 0].mean()), rel=0.02)
    assert found["rho"] == pytest.approx(float((lengths / affine.x.flatten(1).norm(dim=1)).mean()), rel=0.02)
    assert found["r_2_found"] == 1
    assert found["r_2"] <= min(found["r_2_deepfool"], found["r_2_cw"]) + 1e-9


def test_distance_takes_attacks_that_minimise_one() -> None:
    with pytest.raises(ValidationError, match="pgd minimises no distance"):
        Distance(attacks=(Pgd(),))
    with pytest.raises(ValidationError, match="each of another kind"):
        Distance(attacks=(DeepFool(), DeepFool(steps=3)))


def test_lipschitz_constants_of_an_affine_classifier_are_its_weights(affine: MetricContext) -> None:
    weight = affine.net[1].weight  # type: ignore[index]
    difference = weight[0] - weight[1]
    logits = affine.net(affine.x)
    margin = float((logits[:, 0] - logits[:, 1]).abs().mean())
    found = Lipschitz(examples=None, samples=3, radius_linf=9, radius_l2=9).values(affine)
    l1, l2 = float(difference.abs().sum()), float(difference.norm())
    assert found["margin"] == pytest.approx(margin, rel=1e-5)
    assert found["logit_norm"] == pytest.approx(float(logits.norm(dim=1).log().mean()), rel=1e-5)
    for name in ("jacobian", "lipschitz"):
        assert found[f"{name}_l1"] == pytest.approx(l1, rel=1e-5)
        assert found[f"{name}_l2"] == pytest.approx(l2, rel=1e-5)
    assert found["reach_linf"] == found["clever_linf"] == pytest.approx(margin / l1, rel=1e-5)
    assert found["reach_l2"] == found["clever_l2"] == pytest.approx(margin / l2, rel=1e-5)


def test_sampling_finds_steeper_points_of_a_curved_net() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)).eval().requires_grad_(False)
    here = context(net, torch.rand(10, 1, 4, 4), torch.zeros(10, dtype=torch.long))
    found = Lipschitz(samples=20, radius_linf=0.3, radius_l2=1.0).values(here)
    whole = torch.autograd.functional.jacobian(net, here.x)
    assert isinstance(whole, torch.Tensor)
    norms = []
    for i, c in enumerate(net(here.x).argmax(dim=1)):
        rows = [(whole[i, c, i] - whole[i, k, i]).abs().sum() for k in range(3) if k != c]
        norms.append(float(torch.stack(rows).max()))
    assert found["jacobian_l1"] == pytest.approx(sum(norms) / 10, rel=1e-5)
    assert found["lipschitz_l1"] > found["jacobian_l1"]
    assert found["lipschitz_l2"] > found["jacobian_l2"]
    assert found["clever_l2"] <= 1.0
    assert "lipschitz_l1" not in Lipschitz().values(here)


def test_top_k_keeps_the_largest_of_each_image() -> None:
    layer = TopK(2)
    x = torch.tensor([[3.0, -1.0, 2.0, 1.0], [-1.0, -2.0, -3.0, 4.0]])
    assert layer(x).tolist() == [[3, 0, 2, 0], [0, 0, 0, 4]]
    images = torch.randn(3, 2, 4, 4)
    kept = TopK(5)(images)
    assert (kept != 0).flatten(1).sum(dim=1).tolist() == [5, 5, 5]
    assert torch.equal(kept[kept != 0], images[kept != 0])


def test_zeros_are_counted_per_activation_layer() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 10), TopK(3), nn.Linear(10, 2))
    net[1].weight.data = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    net[1].bias.data.zero_()
    x = torch.rand(7, 1, 2, 2) + 0.1
    found = Activations().values(context(net.eval().requires_grad_(False), x, torch.zeros(7, dtype=torch.long)))
    assert found["zeros_0"] == 0.5
    assert found["zeros_1"] >= 0.7
    assert found["zeros"] == pytest.approx((4 * found["zeros_0"] + 10 * found["zeros_1"]) / 14)


def test_activity_is_the_l1_norm_per_image_and_differentiable() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    with recorded(net) as outputs:
        net(x)
        net(2 * x)
    assert not any(module._forward_hooks for module in net.modules())
    wanted = (net[0](x).relu().sum() + net[0](2 * x).relu().sum()) / 5
    torch.testing.assert_close(activity(outputs), wanted)
    activity(outputs).backward()
    assert net[0].weight.grad is not None
