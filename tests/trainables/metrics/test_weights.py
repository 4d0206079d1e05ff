from __future__ import annotations

import pytest
import torch
from scipy import stats

from trainables.metrics.weights import hoyer, kurtosis


def test_hoyer_spans_from_equal_weights_to_a_single_one() -> None:
    assert hoyer(torch.tensor([2.0, -2.0, 2.0, 2.0])) == pytest.approx(0)
    assert hoyer(torch.tensor([0.0, 0.0, -3.0, 0.0])) == pytest.approx(1)
    assert hoyer(torch.tensor([3.0, 4.0, 0.0, 0.0])) == pytest.approx((2 - 7 / 5) / 1)


def test_kurtosis_is_the_standardised_fourth_moment() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    assert kurtosis(values) == pytest.approx(float(stats.kurtosis(values.numpy(), fisher=False)))
