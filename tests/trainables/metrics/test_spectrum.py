"""The spectrum against matrices whose singular values are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainables.metrics.base import MetricContext
from trainables.metrics.spectrum import Spectrum
from trainables.store.state import State


def _values(net: nn.Module, shape: tuple[int, int, int] = (1, 2, 2)) -> dict[str, float]:
    x, y = torch.rand(3, *shape), torch.zeros(3, dtype=torch.long)
    state, right = State.of(net), torch.ones(3, dtype=torch.bool)
    draws = torch.Generator().manual_seed(0)
    return Spectrum().values(MetricContext(net.eval(), state, x, y, 0.1, "linf", right, right, lambda: state, draws))


def _linear(rows: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows))
    layer.weight.data = torch.tensor(rows)
    return layer


def test_products_and_condition_numbers_of_diagonal_matrices() -> None:
    first = _linear([[3.0, 0, 0, 0], [0, 4.0, 0, 0], [0, 0, 0, 0]])
    second = _linear([[10.0, 0, 0], [0, 0.1, 0], [0, 0, 1.0]])
    found = _values(nn.Sequential(nn.Flatten(), first, nn.ReLU(), second))
    assert found["frobenius"] == pytest.approx(math.log10(5 * 101.01**0.5), rel=1e-5)
    assert found["sigma"] == pytest.approx(math.log10(4 * 10))
    # The row and the columns of zeros of the first layer are left out.
    assert found["condition"] == pytest.approx((math.log10(4 / 3) + 2) / 2, rel=1e-5)
    assert found["condition_max"] == pytest.approx(2, rel=1e-5)


def test_the_batch_norm_behind_a_convolution_is_folded_in() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2, eps=0.5), nn.Flatten(), _linear([[1.0] * 8] * 2)
    )
    net[0].weight.data = torch.tensor([3.0, 1.0]).view(2, 1, 1, 1)
    net[1].weight.data = torch.tensor([2.0, -8.0])
    net[1].running_var = torch.tensor([3.5, 3.5])
    # Scales of 1 and -4 make a column (3, -4).
    assert _values(net)["sigma"] == pytest.approx(math.log10(5 * 4), rel=1e-5)


def test_a_matrix_without_full_rank_has_no_condition_number() -> None:
    found = _values(nn.Sequential(nn.Flatten(), _linear([[1.0, 2.0, 0, 0], [2.0, 4.0, 0, 0]])))
    assert found["condition"] == found["condition_max"] == math.inf
    assert _values(nn.Sequential(nn.Flatten(), _linear([[0.0] * 4] * 2)))["sigma"] == -math.inf
