"""Filters that can only go together: masks against the smaller network, and against our own cut in a chain."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import DenseNet

from tests.trainables.models.factories import SHAPE, trained_net
from trainables.core.errors import SpecError
from trainables.data.tensors import Split, TrainingData
from trainables.export import coupled, shrunk
from trainables.models import macs
from trainables.pruning import Pruning
from trainables.pruning.cut import prune
from trainables.pruning.network import Network
from trainables.store.state import State


class Grouped(nn.Module):
    """A grouped and a depthwise convolution, an addition, a concatenation, and a unit that is read in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.grouped, self.grouped_norm = nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.BatchNorm2d(16)
        self.depthwise, self.mixed = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 16, 1)
        self.side, self.head = nn.Conv2d(16, 6, 1), nn.Linear(22, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm(self.stem(x)))
        k = self.mixed(self.depthwise(F.relu(self.grouped_norm(self.grouped(h))))) + h
        joined = torch.cat([k, F.relu(self.side(h))], dim=1)
        logits: Tensor = self.head(F.adaptive_avg_pool2d(joined, 1).flatten(1))
        return logits


class Dense(DenseNet):
    def __init__(self) -> None:
        super().__init__(4, (2, 2), 8, num_classes=3)
        self.features.conv0 = nn.Conv2d(2, 8, 3, padding=1, bias=False)


def ready(net: nn.Module) -> nn.Module:
    """Give a network statistics and shifts that are not the initial ones."""
    draws = torch.Generator().manual_seed(2)
    for name, tensor in net.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(std=0.3, generator=draws)
    return net.eval()


def cut(net: nn.Module, sparsity: float, state: State | None = None, **settings: Any) -> State:
    nothing = Split(torch.empty(0, *SHAPE), torch.empty(0), 1.0)
    data = TrainingData(nothing, nothing, 3, SHAPE, (0.5, 0.5), (0.3, 0.2), "f", "s")
    pruning = Pruning.model_validate({"structure": "filter", "backend": "torch-pruning", **settings})
    draws = torch.Generator().manual_seed(1)
    return prune(pruning, sparsity, state or State.of(net), draws, lambda s, g: Network(net, s, data, g))


def built(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return ready(Grouped() if kind == "grouped" else Dense())


@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize("kind", ["grouped", pytest.param("densenet", marks=pytest.mark.slow)])
def test_the_network_without_the_units_has_the_logits_of_the_masked_one(kind: str, scope: str) -> None:
    net = built(kind)
    before = {name: t.clone() for name, t in net.state_dict().items()}
    pruned = cut(net, 0.6, scope=scope)
    keep = pruned.size() - round(0.6 * pruned.size())
    assert 0.5 * keep < pruned.nonzero() <= keep
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    whole = pruned.into(built(kind)).eval()
    small = coupled.without(whole, coupled.living(whole, SHAPE), SHAPE)
    x = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = whole(x)
        torch.testing.assert_close(small(x), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    # Nothing that is dead is left: what is built is what was counted.
    assert sum(p.numel() for p in small.parameters() if p.dim() > 1) == pruned.nonzero()
    assert macs.dense(macs.count(small, SHAPE)) < 0.8 * macs.dense(macs.count(whole, SHAPE))


def test_grouped_convolutions_keep_equally_many_channels_in_each_group() -> None:
    net = built("grouped")
    pruned = cut(net, 0.6)
    alive = pruned.masks["grouped.weight"].flatten(1).any(dim=1).view(4, -1)
    assert bool((alive == alive[0]).all())
    assert 0 < int(alive[0].sum()) < 4
    again = cut(net, 0.65, pruned)
    assert not any(bool((again.masks[name] & ~pruned.masks[name]).any()) for name in pruned.prunable())


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize("model", [{"kind": "lenet300", "hidden": [40, 20]}, "conv4"], ids=str)
def test_in_a_chain_it_cuts_what_our_own_way_cuts(model: Any, scope: str) -> None:
    net = trained_net(model, 0).eval()
    ours, theirs = (cut(net, 0.6, scope=scope, backend=backend) for backend in ("own", "torch-pruning"))
    for name, mask in ours.masks.items():
        assert torch.equal(mask, theirs.masks[name]), name
    whole = ours.into(trained_net(model, 1)).eval()
    one, other = (way.without(whole, way.living(whole, SHAPE), SHAPE) for way in (shrunk, coupled))
    x = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(one(x), other(x))
    assert [p.numel() for p in one.parameters()] == [p.numel() for p in other.parameters()]


@pytest.mark.slow
def test_both_ways_shrink_a_residual_network_to_the_same_logits() -> None:
    net = trained_net("resnet18", 0).eval()
    pruned = cut(net, 0.7)
    whole = pruned.into(trained_net("resnet18", 1)).eval()
    one, other = (way.without(whole, way.living(whole, SHAPE), SHAPE) for way in (shrunk, coupled))
    x = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = whole(x)
        for small in (one, other):
            torch.testing.assert_close(small(x), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    assert sum(p.numel() for p in one.parameters()) == sum(p.numel() for p in other.parameters())


class Flattened(nn.Module):
    """A concatenation that is flattened with its places, which the package takes for an addition."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.head = nn.Conv2d(2, 8, 1), nn.Conv2d(2, 6, 1), nn.Linear(14 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.one(x), self.other(x)], dim=1)
        logits: Tensor = self.head(F.adaptive_avg_pool2d(joined, 2).flatten(1))
        return logits


def test_a_network_that_the_package_does_not_understand_is_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(SpecError, match="torch-pruning does not understand"):
        cut(ready(Flattened()), 0.3)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch_pruning", None)
    with pytest.raises(SpecError, match=r"pip install 'robustsearch\[structured\]'"):
        cut(built("grouped"), 0.6)


def test_too_sparse_is_said() -> None:
    with pytest.raises(SpecError, match="one unit of coupled filters per group holds"):
        cut(built("grouped"), 0.99)
