"""Optimisers against the first steps of their formulas."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from trainables.optimisers.adam import Adam, AdamW
from trainables.optimisers.base import Optimiser
from trainables.optimisers.sgd import Sgd

ROOT = Path(__file__).parents[3]


TORCHS = (
    (Sgd(lr=0.1), lambda params: torch.optim.SGD(params, 0.1, momentum=0.9, weight_decay=5e-4, fused=True)),
    (Adam(lr=0.1), lambda params: torch.optim.Adam(params, 0.1, fused=True)),
    (AdamW(lr=0.1), lambda params: torch.optim.AdamW(params, 0.1, weight_decay=1e-2, fused=True)),
)


@pytest.mark.parametrize(("ours", "torchs"), TORCHS)
def test_steps_are_those_of_torch_to_the_bit(ours: Optimiser, torchs: Callable[..., torch.optim.Optimizer]) -> None:
    ends = []
    for build in (ours.build, torchs):
        draws = torch.Generator().manual_seed(0)
        weights = nn.Parameter(torch.randn(50, generator=draws))
        optimiser = build([weights])
        for _ in range(10):
            optimiser.zero_grad()
            (weights * torch.randn(50, generator=draws)).square().sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        ends.append(weights.detach())
    assert torch.equal(*ends)


@pytest.mark.slow
def test_neither_building_a_small_network_nor_training_it_loads_torchs_compiler() -> None:
    code = """
import sys
import torch
from trainables.models import MODELS, build
from trainables.models.normalised import outline
from trainables.optimisers import OPTIMISERS
net = build(MODELS.parse({"kind": "lenet300"}), shape=(1, 8, 8), classes=10, mean=(0.5,), std=(0.25,), seed=0)
outline(MODELS.parse({"kind": "lenet300"}), (1, 8, 8), 10, 0)
for kind in ("sgd", "adam", "adamw"):
    optimiser = OPTIMISERS.parse({"kind": kind}).build(list(net.parameters()))
    net(torch.rand(2, 1, 8, 8)).sum().backward()
    optimiser.step()
    optimiser.zero_grad()
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


def after(optimiser: Optimiser, gradients: list[float], start: float = 2.0) -> float:
    """Return a weight after steps with these gradients."""
    weight = nn.Parameter(torch.tensor([start], dtype=torch.double))
    built = optimiser.build([weight])
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.double)
        built.step()
    return float(weight.detach())


def test_sgd_adds_momentum_and_decay() -> None:
    assert after(Sgd(lr=0.1, momentum=0, weight_decay=0), [1.0]) == pytest.approx(1.9)
    assert after(Sgd(lr=0.1, momentum=0, weight_decay=0.5), [1.0]) == pytest.approx(2 - 0.1 * (1 + 0.5 * 2))
    assert after(Sgd(lr=0.1, momentum=0.9, weight_decay=0), [1.0, 1.0]) == pytest.approx(2 - 0.1 - 0.19)
    nesterov = Sgd(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0)
    assert after(nesterov, [1.0]) == pytest.approx(2 - 0.1 * 1.9)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValidationError, match="nesterov needs a momentum above 0"):
        Sgd(nesterov=True, momentum=0)


def test_adams_first_step_is_the_learning_rate_whatever_the_gradient() -> None:
    for gradient in (0.01, 5.0):
        assert after(Adam(lr=0.1), [gradient]) == pytest.approx(1.9, abs=1e-5)
    assert after(Adam(lr=0.1, weight_decay=0.5), [-1.0 + 1e-3]) == pytest.approx(1.9, abs=1e-4)


def test_adamw_decays_beside_the_gradient() -> None:
    assert after(AdamW(lr=0.1, weight_decay=0.5), [1.0]) == pytest.approx(2 - 0.1 * 0.5 * 2 - 0.1, abs=1e-5)
