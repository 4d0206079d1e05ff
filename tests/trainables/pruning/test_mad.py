"""Masks against Adam written out, and scores against their parts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.trainables.pruning.factories import build, close, context, network
from trainables.pruning.curvature import factors
from trainables.pruning.mad import Mad
from trainables.store.state import State, Tensors

FAST = Mad(examples=24, batch=24, eps=0.1, mask_steps=5)  # type: ignore[arg-type]


def batch(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the adversarial images that `FAST` sees of a network, with their labels."""
    ((x, y),) = FAST.batches(network(State.of(model), model))
    return x, y


def test_masks_are_those_of_adam_written_out() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).double()
    x, y = (t.double() if t.is_floating_point() else t for t in batch(model.float()))
    weight, bias = (p.detach() for p in model.double().parameters())
    number = torch.full_like(weight, (torch.e - torch.ones((), dtype=torch.float64)).log().item())
    one, first, second = number.clone(), torch.zeros_like(weight), torch.zeros_like(weight)
    for step in range(1, 6):
        p = F.linear(x.flatten(1), weight * F.softplus(number), bias).softmax(dim=1)
        by_weight = (p - F.one_hot(y, 3)).T @ x.flatten(1) / len(x)
        slope = by_weight * weight * number.sigmoid()
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope.square()
        moved = number - 0.1 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        number = torch.minimum(moved, one)
    state = State.of(model)
    found = FAST.masks(network(state, model), {"1.weight": weight}, x, y)["1.weight"]
    torch.testing.assert_close(found, F.softplus(number))
    assert (found == 1).any()
    assert (found < 1).any()


def test_masks_lower_the_adversarial_loss_and_take_nothing_below_0_or_above_1() -> None:
    model = build()
    seen = context(model)
    x, y = batch(model)
    masks = FAST.masks(seen.network, seen.weights, x, y)
    flat = torch.cat([m.flatten() for m in masks.values()])
    assert 0 < float(flat.min()) < float(flat.max()) == 1

    def loss(weights: Tensors) -> float:
        return float(F.cross_entropy(seen.network.logits(weights, x), y))

    assert loss({name: w * masks[name] for name, w in seen.weights.items()}) < 0.9 * loss({})


@pytest.mark.parametrize("blocks", ["output", "layer"])
def test_scores_are_the_damage_of_the_masks_at_the_masked_network(blocks: str) -> None:
    model = build()
    seen = context(model, sparsity=0.3)
    pruner = FAST.model_copy(update={"blocks": blocks})
    view = network(seen.network.state, model)
    ((x, y),) = pruner.batches(view)
    masks = pruner.masks(view, seen.weights, x, y)
    masked = {name: w * masks[name] for name, w in seen.weights.items()}
    wanted = {}
    for name, kind in factors(view, masked, x, y):
        d = (seen.weights[name] - masked[name]).flatten(1)
        a, g = kind.inputs[0], kind.outputs[0]
        along = torch.kron(g if blocks == "layer" else torch.diag(torch.diag(g)), a) @ d.flatten()
        wanted[name] = (d.flatten() * along / 2).view_as(seen.weights[name])
    found = pruner.scores(seen)
    close(found, wanted)
    for name, score in found.items():
        untouched = (masks[name] == 1) | (seen.weights[name] == 0)
        assert torch.equal(score[untouched], torch.zeros_like(score[untouched]))
        assert (score.flatten(1).sum(dim=1) >= -1e-9).all() or blocks == "layer"
        assert float(score.sum()) > 0


def test_without_masks_a_score_is_the_damage_of_cutting_the_weight_alone() -> None:
    model = build()
    seen = context(model)
    pruner = FAST.model_copy(update={"mask": False, "blocks": "weight"})
    view = network(seen.network.state, model)
    ((x, y),) = pruner.batches(view)
    wanted = {}
    for name, kind in factors(view, seen.weights, x, y):
        curvature = torch.outer(torch.diag(kind.outputs[0]), torch.diag(kind.inputs[0]))
        wanted[name] = (seen.weights[name].flatten(1).square() * curvature / 2).view_as(seen.weights[name])
    close(pruner.scores(seen), wanted)


def test_scores_of_batches_are_averaged_over_their_images() -> None:
    model = build()
    seen = context(model)
    pruner = FAST.model_copy(update={"batch": 10})
    view = network(seen.network.state, model)
    batches = pruner.batches(view)
    assert [len(y) for _, y in batches] == [10, 10, 4]
    # Attacks draw batch by batch here as there.
    parts = [(len(y), pruner.damage(view, seen.weights, x, y)) for x, y in batches]
    close(pruner.scores(seen), {n: torch.stack([k * p[n] for k, p in parts]).sum(dim=0) / 24 for n in seen.weights})


def test_all_images_are_used_and_every_draw_is_the_generators() -> None:
    model = build()

    def scores(pruner: Mad, seed: int) -> Tensors:
        state = State.of(model)
        view = network(state, model, seed)
        seen = context(model)
        return pruner.scores(type(seen)(seen.weights, seen.masks, view.generator, view))

    every = FAST.model_copy(update={"examples": None})
    one, same, other = (scores(every, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    close(scores(FAST, 1), one)  # Of the 24 there are.
