"""Adversarial weight perturbation against the same step written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.trainables.engine.factories import EVERYTHING, KEY, data, end, network, phase, pruned, same, started
from trainables.core.rng import generator
from trainables.engine.awp import climb
from trainables.engine.train import train
from trainables.losses.cross_entropy import Natural
from trainables.losses.mart import Mart
from trainables.losses.trades import Trades
from trainables.optimisers.sgd import Sgd
from trainables.store.state import State, pack, unpack


def test_weights_move_up_the_gradient_by_a_share_of_their_norm() -> None:
    model, x, y = network().train(), torch.rand(9, 1, 8, 8), torch.arange(9) % 3
    state = pruned(State.of(model))
    state.into(model)
    wanted = {}
    grads = torch.autograd.grad(F.cross_entropy(model(x), y), [model[0].weight, model[4].weight])
    for name, gradient in zip(("0.weight", "4.weight"), grads, strict=True):
        up = gradient * state.masks[name]
        weight = state.params[name]
        wanted[name] = weight + 0.1 * weight.norm() * up / up.norm()
    state.into(model)
    buffers = dict(model.named_buffers())
    shares = {"0.weight": 0.1, "4.weight": 0.1}
    back = climb(lambda: F.cross_entropy(model(x), y), dict(model.named_parameters()), state.masks, buffers, shares)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p, wanted.get(name, state.params[name]))
        if name in wanted:
            way = (p - state.params[name]).norm().detach()
            torch.testing.assert_close(way, 0.1 * state.params[name].norm(), rtol=1e-4, atol=0)
    assert all(torch.equal(buffer, state.buffers[name]) for name, buffer in buffers.items())
    back()
    assert same(State.of(model), state)


def test_a_step_descends_the_gradient_at_the_perturbed_weights() -> None:
    """One step of gradient descent on one batch, without an attack, computed again with torch alone."""
    begin = State.of(network())
    spec = phase(epochs=1, batch=60, loss=Natural(), awp=0.2, optimiser=Sgd(lr=0.5, momentum=0, weight_decay=0.01))
    found = end(started(spec, begin)).state()
    reference = begin.into(network()).train()
    order = torch.randperm(60, generator=_generator("order"))
    x, y = data().train.pixels(order), data().train.y[order]
    loss = F.cross_entropy(reference(x), y)
    grads = dict(zip(begin.params, torch.autograd.grad(loss, list(reference.parameters())), strict=True))
    worst = {
        name: p + 0.2 * p.norm() * grads[name] / grads[name].norm() if p.dim() > 1 else p
        for name, p in begin.params.items()
    }
    State(worst, begin.buffers).into(reference)
    slopes = torch.autograd.grad(F.cross_entropy(reference(x), y), list(reference.parameters()))
    for (name, p), slope in zip(begin.params.items(), slopes, strict=True):
        torch.testing.assert_close(found.params[name], p - 0.5 * (slope + 0.01 * p))
    # Statistics are moved once, by the pass that counts.
    torch.testing.assert_close(found.buffers["1.running_mean"], reference[1].running_mean)
    assert int(found.buffers["1.num_batches_tracked"]) == 1


def _generator(purpose: str) -> torch.Generator:
    return generator(KEY, 0, purpose)


def test_warming_up_changes_nothing() -> None:
    plain = list(started(phase(epochs=2)))
    late = list(started(phase(epochs=2, awp=0.1, awp_warmup=1.0)))
    assert late[0].loss == plain[0].loss
    assert late[1].loss != plain[1].loss
    assert same(end(started(phase(epochs=2, awp=0.1, awp_warmup=2.0))).state(), end(started(phase(epochs=2))).state())


@pytest.mark.parametrize("loss", [Trades(), Mart()], ids=["trades", "mart"])
def test_resumes_bit_for_bit_and_holds_masks(loss: Any) -> None:
    spec = phase(epochs=3, loss=loss, awp=0.05, **EVERYTHING)
    begin = pruned(State.of(network()))
    wanted = end(started(spec, begin)).state()
    checkpoint = unpack(pack(next(started(spec, begin)).checkpoint()))
    found = end(started(spec, begin, resume=(1, checkpoint))).state()
    assert same(found, wanted)
    assert all(not bool(found.params[name][~mask].any()) for name, mask in begin.masks.items())


def test_convolutions_in_channels_last() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3))
    spec = phase(epochs=1, awp=0.01)
    report = end(train(model, State.of(model), spec, data(shape=(2, 8, 8)), key=KEY, device="cpu"))
    assert report.state().params["0.weight"].isfinite().all()
