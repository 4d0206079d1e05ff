"""The input gradient where there is none: a network that autograd cannot follow is not an error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainables.attacks import ATTACKS, hunt, run
from trainables.attacks.gradients import input_gradient

WEIGHT = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))


def detached(x: Tensor) -> Tensor:
    return x.detach().flatten(1) @ WEIGHT


def unused(x: Tensor) -> Tensor:
    return torch.zeros(len(x), 5).requires_grad_() + torch.arange(5.0)


@torch.inference_mode()
def inference(x: Tensor) -> Tensor:
    return x.flatten(1) @ WEIGHT


NETWORKS = [detached, unused, inference, lambda x: (x.flatten(1) @ WEIGHT).round()]


@pytest.mark.parametrize("network", NETWORKS)
def test_no_gradient_is_one_of_zeros(network: Callable[[Tensor], Tensor]) -> None:
    x = torch.rand(3, 3, 2, 2)
    assert torch.equal(input_gradient(network, x, lambda logits: torch.ones_like(logits)), torch.zeros_like(x))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    "kind", ["pgd", "fgsm", "rfgsm", "apgd-ce", "apgd-dlr", "apgd-t", "deepfool", "fab", "fmn", "aa"]
)
def test_attacks_survive_a_network_without_gradients(network: Callable[[Tensor], Tensor], kind: str) -> None:
    x, y = torch.rand(3, 3, 2, 2), torch.tensor([0, 1, 2])
    few = {name: 5 for name in ("steps", "queries") if name in ATTACKS[kind].model_fields}
    attack = ATTACKS.parse({"kind": kind, **few})
    generator = torch.Generator().manual_seed(0)
    for found in (
        run(attack, network, x, y, eps=0.1, generator=generator),
        hunt(attack, network, x, y, eps=0.1, generator=generator, standing=torch.tensor([True, False, True])),
    ):
        assert bool(found.isfinite().all())
