"""Whole filters: what dies with one, what it scores, and how many go."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables import models
from trainables.core.errors import SpecError
from trainables.data.tensors import Split, TrainingData
from trainables.models import MODELS
from trainables.models.graph.channels import Wiring
from trainables.pruning import Pruning
from trainables.pruning.cut import View, prune
from trainables.pruning.network import Network
from trainables.pruning.scores import Slimming
from trainables.store.state import State

SHAPE = (2, 8, 8)
TRACED = [
    {"kind": "lenet300", "hidden": [30, 20]},
    "conv4",
    "resnet20",
    pytest.param("resnet18", marks=pytest.mark.slow),
]


def _net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 6, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(6 * 9, 12),
            nn.ReLU(),
            nn.Linear(12, 3),
        )
        for p in net.parameters():
            nn.init.normal_(p)
        return net


def _cut(net: nn.Module, sparsity: float, state: State | None = None, wired: bool = True, **settings: object) -> State:
    pruning = Pruning.model_validate({"structure": "filter", **settings})
    return prune(
        pruning, sparsity, state or State.of(net), torch.Generator().manual_seed(1), _view(net) if wired else None
    )


def _view(net: nn.Module) -> View:
    nothing = Split(torch.empty(0, *SHAPE), torch.empty(0), 1.0)
    data = TrainingData(nothing, nothing, 3, SHAPE, (0.5, 0.5), (0.3, 0.2), "f", "s")
    return lambda state, draws: Network(net, state, data, draws, lambda seed: net)


def _filters(state: State, name: str) -> list[int]:
    return state.masks[name].flatten(1).any(dim=1).nonzero().flatten().tolist()


@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize("group", ["mean", "sum", "norm"])
def test_filters_are_cut_whole_to_the_first_count_within_the_budget(scope: str, group: str) -> None:
    net = _net()
    size = State.of(net).size()
    for sparsity in (0.0, 0.3, 0.6, 0.9):
        cut = _cut(net, sparsity, scope=scope, group=group)
        keep = size - round(sparsity * size)
        assert cut.nonzero() == sum(int(cut.masks[n].sum()) for n in cut.prunable())
        assert keep - 400 <= cut.nonzero() <= keep
        assert bool(cut.masks["9.weight"].any(dim=1).all())
        for name in ("0.weight", "3.weight", "7.weight"):
            assert _filters(cut, name)


def test_what_hangs_on_a_dead_filter_dies_with_it_and_nothing_else() -> None:
    net = _net()
    cut = _cut(net, 0.6, scope="layerwise")
    first, second, third = (set(_filters(cut, name)) for name in ("0.weight", "3.weight", "7.weight"))
    for name, live in (("1.weight", first), ("1.bias", first), ("3.bias", second), ("7.bias", third)):
        assert cut.masks[name].nonzero().flatten().tolist() == sorted(live)
        assert int(cut.params[name].count_nonzero()) == len(live)
    assert cut.masks["3.weight"].any(dim=0).flatten(1).any(dim=1).nonzero().flatten().tolist() == sorted(first)
    wide = cut.masks["7.weight"].any(dim=0).view(6, 9)
    assert torch.equal(wide, torch.tensor([[i in second] * 9 for i in range(6)]))
    assert cut.nonzero() == len(first) * 18 + len(second) * len(first) * 9 + len(third) * len(second) * 9 + 3 * len(
        third
    )


def test_global_filters_are_ranked_by_their_mean_magnitude() -> None:
    net = _net()
    cut = _cut(net, 0.5, wired=False)
    kept, lost = [], []
    for name in ("0.weight", "3.weight", "7.weight"):
        means = net.get_parameter(name).detach().abs().flatten(1).mean(dim=1)
        live = _filters(cut, name)
        kept += [float(means[i]) for i in live if i != int(means.argmax())]
        lost += [float(means[i]) for i in range(len(means)) if i not in live]
    assert min(kept) >= max(lost)


def test_leading_filters_make_a_narrower_network() -> None:
    cut = _cut(_net(), 0.7, pruner="leading", scope="layerwise")
    counts = {name: len(_filters(cut, name)) for name in ("0.weight", "3.weight", "7.weight")}
    for name, count in counts.items():
        assert _filters(cut, name) == list(range(count))
    shares = [count / full for count, full in zip(counts.values(), (8, 6, 12), strict=True)]
    assert max(shares) - min(shares) < 0.2


def test_slimming_cuts_the_filters_of_smallest_scale() -> None:
    net = _net()
    cut = _cut(net, 0.35, pruner="slimming")
    scales = net.get_parameter("1.weight").detach().abs()
    live = _filters(cut, "0.weight")
    assert 0 < len(live) < 8
    assert min(float(scales[i]) for i in live) >= max(float(scales[i]) for i in range(8) if i not in live)
    assert len(_filters(cut, "3.weight")) == 6
    Slimming().check(net, SHAPE)
    bare = nn.Sequential(nn.Flatten(), nn.Linear(128, 8), nn.Linear(8, 3))
    for scored in (lambda: _cut(bare, 0.5, pruner="slimming"), lambda: Slimming().check(bare, SHAPE)):
        with pytest.raises(SpecError, match="batch norms"):
            scored()


def test_what_was_cut_stays_cut_and_too_much_is_refused() -> None:
    net = _net()
    first = _cut(net, 0.4)
    second = _cut(net, 0.7, state=first, scope="layerwise", pruner="random")
    for name, mask in second.masks.items():
        assert not bool((mask & ~first.masks.get(name, torch.ones_like(mask))).any())
    with pytest.raises(SpecError, match="one filter per layer holds"):
        _cut(net, 0.999)


@pytest.mark.parametrize("model", TRACED, ids=str)
@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_dead_channels_of_the_built_in_nets_are_silent(model: object, scope: str) -> None:
    """The inputs that are masked away read nothing but zeros."""
    net = models.build(MODELS.parse(model), shape=SHAPE, classes=3, mean=(0.5, 0.5), std=(0.3, 0.2), seed=1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    cut = _cut(net, 0.6, scope=scope)
    net = cut.into(net).eval()
    dense = State.of(net)
    x = torch.rand(4, *SHAPE)
    with torch.no_grad():
        wanted = net(x)
        outputs = {n: cut.masks[n].flatten(1).any(dim=1) for n in cut.prunable()}
        inputs = Wiring(net, SHAPE).inputs(outputs)
        assert any(not bool(live.all()) for live in inputs.values())
        # Weights that read dead channels change nothing, whatever they are.
        noisy = {}
        for name in cut.prunable():
            live = inputs.get(name, torch.ones(cut.masks[name].shape[1], dtype=torch.bool))
            dead = ~live.view(1, -1, *[1] * (cut.masks[name].dim() - 2)).expand_as(cut.masks[name])
            noisy[name] = torch.where(dead, 1.0, cut.params[name])
        found = State({**dense.params, **noisy}, dense.buffers).into(net)(x)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize(("floor", "least"), [(0, [1, 1, 1]), (3, [3, 3, 3]), (0.4, [3, 2, 5])])
def test_every_layer_keeps_its_floor_of_filters(scope: str, floor: float, least: list[int]) -> None:
    """Of 8, 6 and 12 filters, at the highest sparsity that leaves the floor."""
    net = _net()
    names = ("0.weight", "3.weight", "7.weight")
    counts = [len(_filters(_cut(net, 0.8, scope=scope, floor=floor), name)) for name in names]
    assert all(count >= low for count, low in zip(counts, least, strict=True)), counts
    with pytest.raises(SpecError, match="holds"):
        _cut(net, 0.995, scope=scope, floor=floor)
