"""Weights pulled towards a budget, against the method written out; resumption is in tests/kits/test_weights.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from tests.trainables.engine.factories import data, end, network, phase, pruned
from trainables.engine.epoch import Epoch
from trainables.engine.optimisation import Optimisation
from trainables.engine.selection import EPOCH
from trainables.engine.train import train
from trainables.losses.cross_entropy import Natural
from trainables.method.phases import Train
from trainables.method.training import Training
from trainables.optimisers.sgd import Sgd
from trainables.reparametrisations.admm import MULTIPLIER, TARGET, Admm, AdmmWeights
from trainables.store.state import FORCED, State

LAYERS = ("0.weight", "2.weight")


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.Flatten(), nn.Linear(6 * 4, 5))


def begun(model: nn.Module, spec: Admm, masks: Mapping[str, Tensor] | None = None) -> tuple[AdmmWeights, State]:
    state = State.of(model)
    if masks is not None:
        state = replace(state, masks=dict(masks)).masked()
        state.into(model)
    own = replace(state, params=dict(model.named_parameters()))
    return AdmmWeights(spec, own, torch.Generator()), own


def largest(points: np.ndarray[Any, Any], keep: int) -> np.ndarray[Any, Any]:
    """Return the nearest point with at most `keep` entries that are not 0; ties go to the lower index."""
    flat = points.ravel()
    order = np.lexsort((np.arange(flat.size), -np.abs(flat)))[:keep]
    nearest = np.zeros_like(flat)
    nearest[order] = flat[order]
    return nearest.reshape(points.shape)


@pytest.mark.parametrize("growth", [1.0, 1.3])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_the_iteration_is_that_of_a_quadratic_loss_written_out(growth: float, memory: torch.memory_format) -> None:
    """With 1/2 |W - A|^2 for a loss, a gradient step of 1 / (1 + rho) is the exact minimum over W."""
    model = net().to(memory_format=memory)
    spec = Admm(sparsity=0.75, rho=0.5, growth=growth, update_epochs=1)
    effective, state = begun(model, spec)
    optimisation = Optimisation(model, state.masks, Training(optimiser=Sgd(momentum=0, weight_decay=0)), effective)
    aims = {name: torch.randn(state.params[name].shape, generator=torch.Generator().manual_seed(7)) for name in LAYERS}

    a = {name: aim.numpy().astype(np.float64) for name, aim in aims.items()}
    w = {name: state.params[name].detach().numpy().astype(np.float64) for name in LAYERS}
    keep = {"0.weight": 27, "2.weight": 30}  # A quarter of 108 and of 120.
    z = {name: largest(w[name], keep[name]) for name in LAYERS}
    u = {name: np.zeros_like(w[name]) for name in LAYERS}
    for epoch in range(6):
        rho = 0.5 * growth**epoch
        effective.begin(epoch)
        if epoch:
            for name in LAYERS:
                z[name] = largest(w[name] + u[name], keep[name])
                u[name] = u[name] + w[name] - z[name]
        w = {name: (a[name] + rho * (z[name] - u[name])) / (1 + rho) for name in LAYERS}
        loss = torch.stack([(state.params[name] - aims[name]).square().sum() / 2 for name in LAYERS]).sum()
        optimisation.set_rate(1 / (1 + rho))
        optimisation.descend(loss)
        for name in LAYERS:
            for found, wanted in (
                (state.params[name].detach(), w[name]),
                (effective.kept[TARGET + name], z[name]),
                (effective.kept[MULTIPLIER + name], u[name]),
            ):
                np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_it_ends_at_the_best_point_within_the_budget() -> None:
    """Of 1/2 |W - A|^2 that is the projection of A, and W itself comes to it.

    Where the iteration rests, W = Z = A and U = 0 for what is kept, W = Z = 0 and U = A / rho for the rest; so all that
    is kept is at least what is not, over rho: with a rho of 1 no other point is one of rest.
    """
    model = net()
    effective, state = begun(model, Admm(sparsity=0.75, rho=1.0, growth=1.0, update_epochs=1))
    optimisation = Optimisation(model, state.masks, Training(optimiser=Sgd(momentum=0, weight_decay=0)), effective)
    aims = {name: torch.randn(state.params[name].shape, generator=torch.Generator().manual_seed(7)) for name in LAYERS}
    for epoch in range(40):
        effective.begin(epoch)
        loss = torch.stack([(state.params[name] - aims[name]).square().sum() / 2 for name in LAYERS]).sum()
        optimisation.set_rate(1 / 2)
        optimisation.descend(loss)
    for name, keep in (("0.weight", 27), ("2.weight", 30)):
        best = largest(aims[name].numpy(), keep)
        np.testing.assert_allclose(state.params[name].detach().numpy(), best, atol=1e-4)
        np.testing.assert_allclose(effective.kept[TARGET + name].numpy(), best, atol=1e-4)


def test_the_share_of_the_squares_that_a_cut_takes_is_noted() -> None:
    model = net()
    effective, state = begun(model, Admm(sparsity=0.75))
    squares = {name: state.params[name].detach().double().square().reshape(-1).sort(descending=True) for name in LAYERS}
    left = sum(float(squares[name].values[:keep].sum()) for name, keep in (("0.weight", 27), ("2.weight", 30)))
    whole = sum(float(found.values.sum()) for found in squares.values())
    assert float(effective.fold(state, {}).notes[FORCED]) == pytest.approx(1 - left / whole, rel=1e-5)
    reached = replace(state, params={**state.params, **effective._projection({n: state.params[n] for n in LAYERS})})
    assert float(effective.fold(reached, {}).notes[FORCED]) == pytest.approx(0, abs=1e-6)


def test_the_penaltys_gradient_is_rho_times_the_gap() -> None:
    model = net()
    effective, state = begun(model, Admm(sparsity=0.5, rho=0.3, growth=2.0, update_epochs=2))
    for tensor in effective.kept.values():
        tensor.normal_(generator=torch.Generator().manual_seed(3))
    kept = {name: tensor.clone() for name, tensor in effective.kept.items()}
    effective.begin(1)
    gaps = {n: state.params[n].detach() - kept[TARGET + n] + kept[MULTIPLIER + n] for n in LAYERS}
    penalty = effective.penalty()
    assert float(penalty.detach()) == pytest.approx(0.15 * sum(float(gap.square().sum()) for gap in gaps.values()))
    penalty.backward()  # type: ignore[no-untyped-call]
    for name, gap in gaps.items():
        torch.testing.assert_close(state.params[name].grad, 0.3 * gap)
    assert state.params["0.bias"].grad is None
    # Two updates later the pull is four times as strong.
    effective.begin(4)
    before = {n: p.grad.clone() for n in LAYERS if (p := state.params[n]).grad is not None}
    effective.penalty().backward()  # type: ignore[no-untyped-call]
    for name in LAYERS:
        gap = state.params[name].detach() - effective.kept[TARGET + name] + effective.kept[MULTIPLIER + name]
        gradient = state.params[name].grad
        assert gradient is not None
        torch.testing.assert_close(gradient - before[name], 1.2 * gap)


def test_the_budget_is_exact_and_equals_stay_by_index() -> None:
    model = net()
    for p in model.parameters():
        nn.init.constant_(p, -0.5)
    effective, state = begun(model, Admm(sparsity=0.9))
    living = {name: effective.kept[TARGET + name].flatten() != 0 for name in LAYERS}
    assert sum(int(alive.sum()) for alive in living.values()) == state.size() - round(0.9 * state.size()) == 23
    for alive in living.values():
        number = int(alive.sum())
        assert bool(alive[:number].all())
    assert all(not bool(effective.kept[MULTIPLIER + name].any()) for name in LAYERS)


def test_layers_that_give_nothing_are_not_pulled_and_what_was_pruned_stays_out() -> None:
    masks = pruned(State.of(net()), 0.3).masks
    effective, _ = begun(net(), Admm.model_validate({"sparsity": 0.5, "pruning": {"prune_last": False}}), masks)
    assert set(effective.kept) == {"admm/z/0.weight", "admm/u/0.weight"}
    effective, state = begun(net(), Admm(sparsity=0.6), masks)
    effective.begin(20)
    for name, mask in masks.items():
        assert not bool(effective.kept[TARGET + name][~mask].any())
        assert not bool(effective.kept[MULTIPLIER + name][~mask].any())
    assert sum(int(torch.count_nonzero(effective.kept[TARGET + n])) for n in LAYERS) == state.size() - round(
        0.6 * state.size()
    )


def started(weights: Admm | None, **fields: Any) -> list[Epoch]:
    defaults = {"epochs": 4, "loss": Natural(), "batch": 20, "optimiser": Sgd(lr=0.1, weight_decay=0)}
    settings = phase(**{**defaults, **fields})
    spec: Train = settings if weights is None else settings.model_copy(update={"weights": weights})
    model = network()
    return list(train(model, State.of(model), spec, data(), key="a key", device="cpu"))


def test_trained_weights_come_near_to_the_budget_and_none_is_cut() -> None:
    def lost(state: State) -> float:
        """Return the share of the weights' squares that a cut of each layer to a fifth would take."""
        squares = {name: state.params[name].flatten().square().sort(descending=True).values for name in state.masks}
        cut = sum(float(s[round(0.2 * len(s)) :].sum()) for s in squares.values())
        return cut / sum(float(s.sum()) for s in squares.values())

    plain, pulled = (end(iter(started(w))).state() for w in (None, Admm(sparsity=0.8, rho=0.3, update_epochs=1)))
    assert lost(pulled) < lost(plain) / 2
    assert all(bool(mask.all()) for mask in pulled.masks.values())
    assert pulled.nonzero() == pulled.size()


def test_of_a_training_that_selects_the_last_epoch_is_handed_on() -> None:
    last = started(Admm(sparsity=0.8, rho=0.3, update_epochs=1), select=15)[-1].state()
    assert float(last.history[EPOCH]) == 4


@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        ({"structure": "filter"}, "pruning.structure\n  weights are pulled to single weights or n:m patterns"),
        ({"pruner": "random"}, "pruning.pruner\n  weights are pulled to the nearest ones.*random keeps others"),
        ({"structure": "2:4"}, "a structure of 2:4 gives a sparsity of 0.5, not of 0.9"),
    ],
)
def test_what_is_no_projection_is_refused(pruning: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Admm.model_validate({"sparsity": 0.9, "pruning": pruning})


def test_a_pattern_is_a_budget_too() -> None:
    effective, state = begun(net(), Admm.model_validate({"sparsity": 0.5, "pruning": {"structure": "1:2"}}))
    for name in LAYERS:
        weight = state.params[name].detach()
        other = weight.unflatten(1, (-1, 2)).flip(2).flatten(1, 2)
        wanted = torch.where(weight.abs() > other.abs(), weight, 0.0)
        assert torch.equal(effective.kept[TARGET + name], wanted)
