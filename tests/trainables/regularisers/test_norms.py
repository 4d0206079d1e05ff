"""Penalties against their formulas."""

from __future__ import annotations

import torch
from torch import nn

from trainables.engine.optimisation import Optimisation
from trainables.method.training import Training
from trainables.regularisers.norms import L1, L2, GroupLasso
from trainables.store.state import State

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


def test_slimming_shrinks_the_scales_of_batch_norms_and_no_weight() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    before = State.of(net)
    training = Training(optimiser={"kind": "sgd", "momentum": 0, "weight_decay": 0}, regularisers={"slimming": 0.3})  # type: ignore[arg-type, dict-item]
    optimisation = Optimisation(net, before.masks, training)
    optimisation.set_rate(0.1)
    optimisation.descend(0 * net(torch.ones(2, 1, 4, 4)).sum())
    after = State.of(net)
    torch.testing.assert_close(after.params["1.weight"], before.params["1.weight"] - 0.03)
    assert all(torch.equal(after.params[name], before.params[name]) for name in before.params if name != "1.weight")
