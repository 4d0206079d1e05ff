"""The network that is left where filters are pruned whole: its tensors, and what must stay whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.trainables.models.factories import SHAPE, small_state, trained_net
from trainables.core.errors import SpecError
from trainables.models import macs
from trainables.models.graph.smaller import Smaller, cuts_filters
from trainables.store.state import State

NETS = [
    *({"kind": "lenet300", "hidden": [40, 20]}, "lenet5", "resnet20"),
    *(pytest.param(large, marks=pytest.mark.slow) for large in ("resnet18", "vgg16", "wrn28_4")),
]


def chain(hidden: nn.Module) -> nn.Sequential:
    """Build a network of two convolutions with a module between them."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), hidden, nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 12 * 12, 3)
    )


def without_filters(net: nn.Module, filters: int = 2) -> State:
    """Return a state of `chain` of which the first filters of the first layer are pruned with all that reads them."""
    state = State.of(net)
    masks = {name: torch.ones_like(state.params[name], dtype=torch.bool) for name in ("0.weight", "0.bias", "3.weight")}
    masks["0.weight"][:filters] = masks["0.bias"][:filters] = False
    masks["3.weight"][:, :filters] = False
    if "1.running_mean" in state.buffers:
        masks["1.weight"] = masks["1.bias"] = masks["0.bias"]
    state.masks.update(masks)
    return state.masked()


@pytest.mark.slow
@pytest.mark.parametrize("model", NETS, ids=str)
def test_tensors_come_back_as_they_were_and_the_logits_are_those_of_the_full_network(model: Any) -> None:
    net = trained_net(model, 0)
    state = small_state(net, "filter")
    smaller = Smaller(net, state, SHAPE)
    small = smaller.cut_state(state)
    back = smaller.whole_state(small)
    for group in ("params", "buffers", "masks"):
        ours, theirs = getattr(back, group), getattr(state, group)
        assert list(ours) == list(theirs) or group == "masks"
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert small.size() < 0.75 * state.size()
    assert smaller.share == macs.dense(macs.count(smaller.model, SHAPE)) / macs.dense(macs.count(net, SHAPE))
    x = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(3))
    for training in (True, False):
        whole, left = state.into(trained_net(model, 1)), small.into(smaller.model)
        wanted, found = whole.train(training)(x), left.train(training)(x)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.detach().abs().max()))
    assert all(p.requires_grad for p in smaller.model.parameters())


def test_slots_are_mapped_by_the_name_behind_the_colon_and_other_shapes_stay() -> None:
    net = chain(nn.Identity())
    smaller = Smaller(net, without_filters(net), SHAPE)
    slots = {"step:0.weight": torch.tensor(3.0), "momentum:0.weight": torch.ones(6, 2, 3, 3), "3.bias": torch.ones(5)}
    small = smaller.cut(slots)
    assert {name: tuple(t.shape) for name, t in small.items()} == {
        "step:0.weight": (),
        "momentum:0.weight": (4, 2, 3, 3),
        "3.bias": (5,),
    }
    back = smaller.whole({**small, "spread.index": torch.ones(1)})
    assert back.keys() == slots.keys()
    assert torch.equal(back["momentum:0.weight"][2:], slots["momentum:0.weight"][2:])
    assert not bool(back["momentum:0.weight"][:2].any())


def test_gradients_pass_through_what_is_made_whole() -> None:
    net = chain(nn.Identity())
    smaller = Smaller(net, without_filters(net), SHAPE)
    weight = smaller.model.get_parameter("3.weight")
    whole = smaller.whole({"3.weight": weight})["3.weight"]
    assert whole.shape == (5, 6, 3, 3)
    (whole.square().sum() / 2).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert torch.equal(weight.grad, weight.detach())


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_of_cut_channels_move_as_those_of_zeros(momentum: float | None) -> None:
    net = chain(nn.BatchNorm2d(6, momentum=momentum))
    net[1].running_mean.fill_(0.5)
    state = without_filters(net)
    smaller = Smaller(net, state, SHAPE)
    whole, left = state.into(net), smaller.cut_state(state).into(smaller.model)
    for training in (True, True, False):
        x = torch.rand(4, *SHAPE)
        whole.train(training)(x), left.train(training)(x)
    back = smaller.whole_state(State.of(left))
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        torch.testing.assert_close(back.buffers[name], State.of(whole).buffers[name])
    assert float(back.buffers["1.running_var"][0]) == pytest.approx(0.81 if momentum else 0)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


class Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, training=self.training)


@pytest.mark.parametrize(
    ("hidden", "reason"),
    [
        (Branching, "cannot trace"),
        (Functional, "another one in training"),
        (lambda: nn.Dropout(0.5), "random"),
    ],
)
def test_what_is_not_understood_stays_whole(hidden: Callable[[], nn.Module], reason: str) -> None:
    net = chain(hidden())
    with pytest.raises(SpecError, match=reason):
        Smaller(net, without_filters(net), SHAPE)


def test_layers_that_share_weights_stay_whole() -> None:
    net = chain(nn.Conv2d(6, 6, 1))
    net.append(nn.Linear(3, 3)).append(nn.Linear(3, 3))
    net[8].weight = net[7].weight
    with pytest.raises(SpecError, match="share"):
        Smaller(net, without_filters(net), SHAPE)


def test_weights_that_still_train_keep_the_network_whole() -> None:
    """Their readers see zeros, but weight decay moves them."""
    net = chain(nn.Identity())
    state = without_filters(net)
    state.masks["3.weight"][0, 0, 0, 0] = True
    with pytest.raises(SpecError, match=r"3\.weight has weights that are not pruned"):
        Smaller(net, state, SHAPE)


def test_single_weights_cut_no_filter() -> None:
    net = chain(nn.Identity())
    state = State.of(net)
    assert not cuts_filters(state)
    state.masks["0.weight"][0] = False
    assert not cuts_filters(state), "its bias lives"
    with pytest.raises(SpecError, match="no filter is pruned whole"):
        Smaller(net, state.masked(), SHAPE)
    assert cuts_filters(without_filters(net))
