"""Penalties against their formulas."""

from __future__ import annotations

import torch

from trainables.regularisers.norms import L1, L2, GroupLasso

WEIGHTS = {
    "conv": torch.tensor([[[[3.0, 4.0]]], [[[0.0, 0.0]]], [[[-1.0, 0.0]]]]),
    "linear": torch.tensor([[2.0, -2.0, 1.0], [0.0, 0.0, 0.0]]),
}


def test_lasso_is_the_sum_of_magnitudes() -> None:
    assert float(L1(weight=1).penalty(WEIGHTS)) == 8 + 5


def test_ridge_is_half_the_sum_of_squares() -> None:
    assert float(L2(weight=1).penalty(WEIGHTS)) == (26 + 9) / 2


def test_group_lasso_weighs_filters_by_the_root_of_their_size() -> None:
    wanted = (5 + 1) * 2**0.5 + 3 * 3**0.5
    torch.testing.assert_close(GroupLasso(weight=1).penalty(WEIGHTS), torch.tensor(wanted))
