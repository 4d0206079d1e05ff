"""A network without its dead filters computes what the whole one does, with less."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.trainables.models.factories import SHAPE, small_state, trained_net
from trainables.export.shrunk import shrunk
from trainables.models import macs
from trainables.store.state import State

NETS = [
    *({"kind": "lenet300", "hidden": [40, 20]}, "lenet5", "conv4", "resnet20"),
    *(pytest.param(large, marks=pytest.mark.slow) for large in ("resnet18", "vgg16", "wrn28_4")),
]


@pytest.mark.parametrize("source", ["filter", "narrow"])
@pytest.mark.parametrize("model", NETS, ids=str)
def test_logits_are_equal_and_the_work_is_less(model: Any, source: str) -> None:
    net = trained_net(model, 0).eval()
    small = small_state(net, source)
    before = {name: p.clone() for name, p in small.params.items()}
    found = shrunk(net, small, SHAPE)
    whole = small.into(trained_net(model, 1)).eval()
    x = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = whole(x)
        torch.testing.assert_close(found(x), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    weights = sum(p.numel() for p in found.parameters() if p.dim() > 1)
    assert weights < 0.75 * small.size()
    dense = macs.dense(macs.count(whole, SHAPE))
    assert macs.dense(macs.count(found, SHAPE)) < 0.9 * dense
    if model in ("conv4", "vgg16") or isinstance(model, dict):
        # In a chain nothing that is dead is left: what is built is what was counted.
        assert weights == small.nonzero()
    assert all(torch.equal(small.params[name], p) for name, p in before.items())


def test_a_network_without_dead_filters_stays_as_it_is() -> None:
    net = trained_net("resnet20", 0).eval()
    found = shrunk(net, State.of(net), SHAPE)
    x = torch.rand(3, *SHAPE)
    with torch.no_grad():
        assert torch.equal(found(x), net(x))
    assert sum(p.numel() for p in found.parameters()) == sum(p.numel() for p in net.parameters())


def test_a_constant_channel_is_alive() -> None:
    """Unstructured pruning may leave a filter without weights whose batch norm still says something."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(588, 2),
    ).eval()
    state = State.of(net)
    for name, values in (("0.weight", 0.0), ("0.bias", 0.0), ("1.bias", 0.5)):
        state.params[name][1] = values
    state.params["3.weight"][2] = 0
    state.params["3.bias"][2] = 0
    found = shrunk(net, state, SHAPE)
    with torch.no_grad():
        x = torch.rand(3, *SHAPE)
        torch.testing.assert_close(found(x), state.into(net)(x))
    assert found.get_submodule("0").weight.shape[0] == 4
    assert found.get_submodule("3").weight.shape[0] == 2
