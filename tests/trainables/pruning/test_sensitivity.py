"""Sensitivities of layers against the same ascent written out, and the densities that follow."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from trainables.attacks.noise import Noise
from trainables.pruning import Pruning
from trainables.pruning.sensitivity import Sensitivity
from trainables.store.state import State
from trainables.testing.pruners import view
from trainables.testing.trainings import network, pruned

RULE = Sensitivity(examples=None, batch=60, attack=Noise(), eps=0.0, steps=4, lr=0.5, radius=0.1, floor=0.25)
"""Adversarial images at radius 0 are the images themselves, which the oracle needs."""


def test_a_sensitivity_is_the_highest_loss_on_a_projected_ascent_of_one_layer_alone() -> None:
    state = pruned(State.of(network()), 0.3)
    seen = view(state, torch.Generator().manual_seed(1))
    weights = {name: state.params[name] for name in state.prunable()}
    found = RULE.sensitivities(seen, weights, state.masks)
    x, y = seen.data.train.pixels(), seen.data.train.y
    for at, name in ((0, "0.weight"), (4, "4.weight")):
        model = state.into(network()).eval()
        layer = model[at]  # type: ignore[index]
        start, begun = layer.weight.detach().clone(), F.cross_entropy(model(x), y).item()
        highest = -float("inf")
        for _ in range(4):
            (slope,) = torch.autograd.grad(F.cross_entropy(model(x), y), [layer.weight])
            with torch.no_grad():
                way = layer.weight + 0.5 * slope * state.masks[name] - start
                if way.norm() > 0.1 * start.norm():
                    way *= 0.1 * start.norm() / way.norm()
                layer.weight.copy_(start + way)
            highest = max(highest, F.cross_entropy(model(x), y).item())
        assert highest > begun
        assert found[name] == pytest.approx(highest - begun, rel=1e-4)


def test_densities_are_in_proportion_to_the_floor_and_the_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {"a": (10, 10), "b": (20, 10), "c": (10, 40)}
    found = {"a": 0.5, "b": 2.5, "c": 1.0}
    monkeypatch.setattr(Sensitivity, "sensitivities", lambda *_: found)
    masks = {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
    seen = view(State.of(network()), torch.Generator())
    kept = RULE.shares(140, masks, masks, seen)
    densities = [quota / masks[name].numel() for name, quota in zip(masks, kept, strict=True)]
    # Ranks 0, 1 and 1/4: parts of 0.25, 1 and 0.4375.
    assert densities == pytest.approx([part * 140 / (25 + 200 + 175) for part in (0.25, 1, 0.4375)], abs=0.01)
    assert RULE.shares(600, masks, masks, seen)[1] == 200, "no layer is more than dense"
    found.update(dict.fromkeys(found, 1.0))
    assert RULE.shares(70, masks, masks, seen) == [10, 20, 40], "equally sensitive layers are equally dense"


def test_a_network_whose_output_ignores_a_layer_gives_it_the_floor() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.idle, self.used = nn.Linear(64, 30), nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x.flatten(1)) + 0 * self.idle(x.flatten(1)).sum(dim=1, keepdim=True)

    model = Idle()
    state = State.of(model)
    weights = {name: state.params[name] for name in state.prunable()}
    idle, used = RULE.shares(200, weights, state.masks, view(state, torch.Generator().manual_seed(1), model))
    assert idle / (30 * 64) == pytest.approx(0.25 * used / (3 * 64), rel=0.1)


def test_a_pattern_has_no_layer_densities() -> None:
    with pytest.raises(ValidationError, match="mrs densities are for scope layerwise and single weights or whole"):
        Pruning(structure="2:4", scope="layerwise", layers=RULE)
    with pytest.raises(ValidationError, match="scope layerwise"):
        Pruning(layers=RULE)
