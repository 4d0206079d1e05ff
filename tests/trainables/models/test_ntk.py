"""Tangent kernels against Jacobians that plain autograd computes, one output at a time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.models.ntk import Function, kernel, readout

CLASSES = 3


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(32, CLASSES)]
    net = nn.Sequential(*layers).double()
    net(torch.randn(8, 1, 6, 6, dtype=torch.float64))
    return net.eval()


def function(net: nn.Module) -> Function:
    def f(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
        logits: Tensor = functional_call(net, dict(params), (x,))
        return logits

    return f


def images(seed: int, n: int) -> Tensor:
    return torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(net: nn.Module, x: Tensor) -> Tensor:
    """Return the Jacobian (N, C, all parameters), entry by entry."""
    params = list(net.parameters())
    found = []
    for logits in net(x):
        gradients = [torch.autograd.grad(logit, params, retain_graph=True) for logit in logits]
        found.append(torch.stack([torch.cat([g.reshape(-1) for g in gradient]) for gradient in gradients]))
    return torch.stack(found)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("chunk", [None, 1, 2, 4])
def test_is_the_product_of_jacobians(chunk: int | None, memory: torch.memory_format) -> None:
    net = network()
    x1, x2 = (images(seed, n).contiguous(memory_format=memory) for seed, n in ((1, 3), (2, 5)))
    wanted = torch.einsum("nrp,msp->nmrs", rows(net, x1), rows(net, x2))
    found = kernel(function(net), dict(net.named_parameters()), x1, x2, chunk=chunk)
    assert found.shape == (3, 5, CLASSES, CLASSES)
    torch.testing.assert_close(found, wanted)


def test_reads_combinations_of_the_logits() -> None:
    net = network()
    f, params = function(net), dict(net.named_parameters())
    x1, x2 = images(1, 2), images(2, 3)
    full = kernel(f, params, x1, x2)
    draws = torch.Generator().manual_seed(0)
    summed = readout("sum", CLASSES, draws)
    assert summed is not None
    torch.testing.assert_close(
        kernel(f, params, x1, x2, read=summed.double())[..., 0, 0], full.sum(dim=(2, 3)) / CLASSES
    )
    chosen = readout("random", CLASSES, draws)
    assert chosen is not None
    v = chosen[:, 0].double()
    wanted = torch.einsum("nmrs,r,s->nm", full, v, v)
    torch.testing.assert_close(kernel(f, params, x1, x2, read=chosen.double())[..., 0, 0], wanted)
    assert readout("full", CLASSES, draws) is None


def test_random_combinations_expect_the_mean_over_classes() -> None:
    draws = torch.Generator().manual_seed(0)
    read = [readout("random", CLASSES, draws) for _ in range(4000)]
    second = torch.stack([v @ v.T for v in read if v is not None]).mean(dim=0)
    torch.testing.assert_close(second, torch.eye(CLASSES) / CLASSES, atol=0.04, rtol=0)


def test_is_differentiable_in_the_parameters() -> None:
    net = network()
    f = function(net)
    params = {name: p.detach().requires_grad_() for name, p in net.named_parameters()}
    x1, x2 = images(1, 2), images(2, 2)
    slopes = torch.autograd.grad(
        kernel(f, params, x1, x2).square().sum(), list(params.values()), materialize_grads=True
    )
    for (name, p), slope in zip(params.items(), slopes, strict=True):
        direction = torch.randn_like(p)
        ends = []
        for sign in (1, -1):
            moved = {**params, name: p + sign * 1e-6 * direction}
            ends.append(kernel(f, moved, x1, x2).detach().square().sum())
        assert float((ends[0] - ends[1]) / 2e-6) == pytest.approx(float((slope * direction).sum()), rel=1e-5, abs=1e-6)


def test_of_a_masked_network_counts_the_living_weights_alone() -> None:
    net = network()
    f = function(net)
    params = dict(net.named_parameters())
    masks = {name: (torch.rand_like(p) < 0.5).double() for name, p in params.items()}
    x1, x2 = images(1, 2), images(2, 3)
    pruned = {name: (p * masks[name]).detach().requires_grad_() for name, p in params.items()}
    flat = torch.cat([masks[name].reshape(-1) for name in params])
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(pruned[name])
    wanted = torch.einsum("nrp,msp,p->nmrs", rows(net, x1), rows(net, x2), flat)

    def gated(at: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return f({name: p * masks[name] for name, p in at.items()}, x)

    torch.testing.assert_close(kernel(gated, pruned, x1, x2), wanted)
