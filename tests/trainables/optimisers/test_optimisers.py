"""Optimisers against the first steps of their formulas."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from trainables.optimisers.adam import Adam, AdamW
from trainables.optimisers.base import Optimiser
from trainables.optimisers.sgd import Sgd


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
