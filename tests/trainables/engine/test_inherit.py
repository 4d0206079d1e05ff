"""Weights inheritance: what the large network has of the small one, and that it computes the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.models.factories import SHAPE, small_state, trained_net
from trainables.engine.inherit import inherit
from trainables.method.phases import Inherit
from trainables.models.graph.channels import Wiring
from trainables.store.state import State

NETS = [{"kind": "lenet300", "hidden": [40, 20]}, "conv4", "resnet20", pytest.param("vgg16", marks=pytest.mark.slow)]


def _inherited(phase: Inherit, small: State, model: Any) -> State:
    """Return the large network, which an initialisation with seed 7 gives the rest."""
    return inherit(phase, small, State.of(trained_net(model, 7)), Wiring(trained_net(model, 1), SHAPE))


def _logits(model: Any, state: State) -> Tensor:
    net = state.into(trained_net(model, 1)).eval()
    x = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits: Tensor = net(x)
    return logits


@pytest.mark.slow
@pytest.mark.parametrize("rest", ["zero", "silent"])
@pytest.mark.parametrize("source", ["global", "layerwise", "filter", "narrow", "dying"])
@pytest.mark.parametrize("model", NETS, ids=str)
def test_with_nothing_added_the_large_network_is_the_small_one_to_the_last_bit(
    model: Any, source: str, rest: Any
) -> None:
    """`dying` is a global cut that leaves some units no input; they keep their biases, and are read."""
    small = small_state(
        trained_net(model, 0), "global" if source == "dying" else source, 0.97 if source == "dying" else 0.6
    )
    large = _inherited(Inherit(rest=rest), small, model)
    assert set(large.masks) == set(small.prunable())
    assert all(bool(mask.all()) for mask in large.masks.values())
    assert torch.equal(_logits(model, large), _logits(model, small))


@pytest.mark.parametrize("model", [NETS[0], "conv4", NETS[-1]], ids=str)
def test_silent_filters_can_learn_and_add_nothing(model: Any) -> None:
    small = small_state(trained_net(model, 0), "narrow")
    large = _inherited(Inherit(rest="silent"), small, model)
    net = large.into(trained_net(model, 1)).train()
    net(torch.rand(8, *SHAPE)).square().sum().backward()
    # The outgoing weights of new filters, 0 now, have a gradient; with `zero` they would have none.
    name = large.prunable()[1]
    gradient, mask = net.get_parameter(name).grad, small.masks[name]
    assert gradient is not None
    alive = mask.flatten(1).any(dim=1)
    assert bool((gradient[alive][~mask[alive]] != 0).any())


@pytest.mark.slow
@pytest.mark.parametrize("rest", ["rewind", "random"])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_the_rest_is_what_it_is_said_to_be(rest: Any, scale: float) -> None:
    small = small_state(trained_net("resnet20", 0), "filter")
    fresh = State.of(trained_net("resnet20", 7))
    large = _inherited(Inherit(rest=rest, scale=scale), small, "resnet20")
    for name in small.prunable():
        mask = small.masks[name]
        assert torch.equal(large.params[name][mask], small.params[name][mask])
        assert torch.equal(large.params[name][~mask], fresh.params[name][~mask] * scale)
    vectors = small.masks.keys() - set(small.prunable())
    assert vectors
    for name in vectors:
        wanted = torch.where(small.masks[name], small.params[name], fresh.params[name])
        assert torch.equal(large.params[name], wanted)
    name = next(name for name in vectors if name.endswith("bn1.weight"))
    mean = name.replace("weight", "running_mean")
    assert torch.equal(large.buffers[mean] == 0, ~small.masks[name])


@pytest.mark.slow
def test_batch_norms_start_anew_where_they_are_not_inherited() -> None:
    small, fresh = small_state(trained_net("vgg16", 0), "filter"), State.of(trained_net("vgg16", 7))
    large = _inherited(Inherit(norms=False), small, "vgg16")
    norms = [name for name in large.params if name.startswith("net.features") and name not in large.masks]
    assert norms
    assert all(torch.equal(large.params[name], fresh.params[name]) for name in norms)
    assert all(torch.equal(large.buffers[name], fresh.buffers[name]) for name in large.buffers)
    assert torch.equal(large.params["net.classifier.4.bias"], small.params["net.classifier.4.bias"])
