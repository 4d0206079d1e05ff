"""Imitation at initialisation: its objective, its steps and its masks, against autograd written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables import models
from trainables.core.errors import Diverged
from trainables.data import tensors
from trainables.data.digits import Digits
from trainables.data.tensors import TrainingData
from trainables.engine import imitate as module
from trainables.engine.epoch import Epoch
from trainables.engine.imitate import imitate
from trainables.method.imitation import Imitation
from trainables.method.phases import Imitate
from trainables.models.lenet import LeNet300
from trainables.pruning import Pruning
from trainables.pruning.network import Network
from trainables.store.state import State, Tensors

CPU = torch.device("cpu")
PLAIN: dict[str, Any] = {"target_inputs": "clean", "kernel_inputs": "clean", "kernel": 1.0, "l2": 0.01}
SGD = {"kind": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return tensors.load(Digits(limit=32, validation=100), CPU)


def build(data: TrainingData, seed: int = 0) -> nn.Module:
    spec = LeNet300(hidden=(12, 8))
    return models.build(spec, shape=data.shape, classes=data.classes, mean=data.mean, std=data.std, seed=seed)


def phase(epochs: int = 1, sparsity: float = 0.5, pruning: dict[str, Any] | None = None, **imitation: Any) -> Imitate:
    return Imitate(
        epochs=epochs,
        sparsity=sparsity,
        pruning=Pruning.model_validate(pruning or {"scope": "layerwise"}),
        imitation=Imitation.model_validate({"batch": 8, "eps": 0.1, **imitation}),
    )


def reports(data: TrainingData, settings: Imitate) -> list[tuple[Epoch, State]]:
    model = build(data)

    def view(state: State, draws: torch.Generator) -> Network:
        return Network(model, state, data, draws, lambda seed: build(data, seed))

    found = imitate(model, State.of(model), settings, data, key="key", device=CPU, view=view)
    return [(epoch, epoch.state()) for epoch in found]


def learn(data: TrainingData, settings: Imitate) -> State:
    return reports(data, settings)[-1][1]


def rows(net: nn.Module, params: Tensors, x: Tensor) -> Tensor:
    """Return the Jacobian (N, C, all parameters) entry by entry, differentiable."""
    logits = functional_call(net, params, (x,))
    found = []
    for image in logits:
        slopes = [torch.autograd.grad(logit, list(params.values()), create_graph=True) for logit in image]
        found.append(torch.stack([torch.cat([g.reshape(-1) for g in slope]) for slope in slopes]))
    return torch.stack(found)


@pytest.mark.slow
def test_one_step_descends_the_objective_written_out(data: TrainingData) -> None:
    """A batch of all images and one step of SGD: loss and new weights by plain autograd."""
    settings = phase(batch=32, optimiser=SGD, **PLAIN)
    report, after = reports(data, settings)[-1]
    net = build(data).eval()
    dense = State.of(net)
    masks = {name: mask.float() for name, mask in after.masks.items()}
    order = module.generator("key", 0, "order", CPU)
    x = data.train.pixels(torch.randperm(32, generator=order))
    params = {name: p.clone().requires_grad_() for name, p in dense.params.items()}
    gated = {name: p * masks.get(name, torch.ones(())) for name, p in params.items()}
    wanted = {name: p.clone().requires_grad_() for name, p in dense.params.items()}
    target = (functional_call(net, gated, (x,)) - functional_call(net, dense.params, (x,))).square().mean()
    flat = torch.cat([masks.get(name, torch.ones_like(p)).reshape(-1) for name, p in params.items()])
    sparse_kernel = torch.einsum("nrp,msp,p->nmrs", rows(net, gated, x[:16]), rows(net, gated, x[16:]), flat)
    dense_kernel = torch.einsum("nrp,msp->nmrs", rows(net, wanted, x[:16]), rows(net, wanted, x[16:])).detach()
    distance = (sparse_kernel - dense_kernel).square().mean()
    size = torch.stack([gated[name].square().sum() for name in masks]).sum()
    objective = target + distance + 0.01 / 0.5 * size
    assert report.loss == pytest.approx(float(objective.detach()), rel=1e-4)
    slopes = torch.autograd.grad(objective, list(params.values()))
    for (name, p), slope in zip(params.items(), slopes, strict=True):
        moved = (p - 0.1 * slope).detach() * masks.get(name, torch.ones(()))
        torch.testing.assert_close(after.params[name], moved, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("learn_", ["weights", "mask"])
def test_blocks_of_the_kernel_add_up(data: TrainingData, learn_: str) -> None:
    whole, parts = (learn(data, phase(chunk=chunk, optimiser=SGD, learn=learn_, **PLAIN)) for chunk in (None, 3))
    for name, p in whole.params.items():
        torch.testing.assert_close(parts.params[name], p, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("target", "kernel", "part"), [(1.0, 0.0, 0.2), (0.0, 1.0, 0.7), (1.0, 1e-3, 0.6)])
@pytest.mark.slow
def test_comes_nearer_to_the_dense_network_at_an_exact_budget(
    data: TrainingData, target: float, kernel: float, part: float
) -> None:
    weights = {"target": target, "kernel": kernel, "l2": 0.0, "optimiser": {"kind": "adam", "lr": 3e-3}}
    found = reports(data, phase(epochs=40, rerank=20, **weights))
    assert found[-1][0].loss < part * found[0][0].loss
    for _, state in found:
        assert state.nonzero() == state.size() - round(0.5 * state.size())
    assert any(bool((found[-1][1].masks[n] != m).any()) for n, m in found[0][1].masks.items())


def test_pruned_weights_rest_and_come_back_at_a_ranking(data: TrainingData) -> None:
    """4 batches an epoch, 12 steps: with `rerank` 4 the mask moves after step 4 alone, for 8 is not before 12 - 4."""
    settings = phase(epochs=3, rerank=4, optimiser={"kind": "adam", "lr": 0.02}, attack={"kind": "pgd", "steps": 1})
    first, second, third = (state for _, state in reports(data, settings))
    began = learn(data, phase(optimiser={"kind": "adam", "lr": 1e-9}))
    moved = [bool((first.masks[name] != mask).any()) for name, mask in began.masks.items()]
    assert any(moved)
    dense = State.of(build(data))
    for name, mask in began.masks.items():
        back = first.masks[name] & ~mask
        assert torch.equal(first.params[name][back], dense.params[name][back])
    for name, mask in first.masks.items():
        assert torch.equal(second.masks[name], mask)
        assert torch.equal(third.masks[name], mask)


@pytest.mark.parametrize("rerank", [1, 1000])
def test_a_search_that_diverges_says_so(data: TrainingData, rerank: int) -> None:
    with pytest.raises(Diverged, match="epoch 1, step"):
        reports(data, phase(rerank=rerank, optimiser={**SGD, "lr": 1e20}))


def test_the_mask_alone_leaves_the_weights_what_they_were(data: TrainingData) -> None:
    settings = phase(epochs=4, learn="mask", rerank=4, optimiser={"kind": "adam", "lr": 0.05})
    first, *_, last = reports(data, settings)
    dense = State.of(build(data))
    for name, p in last[1].params.items():
        mask = last[1].masks.get(name)
        assert torch.equal(p, dense.params[name] if mask is None else torch.where(mask, dense.params[name], 0.0))
    assert any(bool((last[1].masks[name] != mask).any()) for name, mask in first[1].masks.items())
    assert last[1].nonzero() == last[1].size() - round(0.5 * last[1].size())


@pytest.mark.parametrize(
    "changed",
    [
        {"attacked": "sparse"},
        {"target_inputs": "clean"},
        {"kernel_inputs": "clean"},
        {"kernel_inputs": "adversarial"},
        {"outputs": "sum"},
        {"outputs": "random"},
        {"kernel": 0.0},
        {"target": 0.0},
    ],
)
def test_every_setting_matters(data: TrainingData, changed: dict[str, Any]) -> None:
    base = {"kernel": 0.1, "attack": {"kind": "pgd", "steps": 1}, "optimiser": {"kind": "adam", "lr": 1e-3}}
    one, other = (learn(data, phase(**{**base, **fields})) for fields in ({}, changed))
    assert one.weights_sha256() != other.weights_sha256()
    assert learn(data, phase(**{**base, **changed})).weights_sha256() == other.weights_sha256()


@pytest.mark.parametrize("pruning", [{"pruner": "snip", "scope": "global"}, {"pruner": "random"}])
def test_begins_with_the_mask_of_the_pruner_and_ranks_in_its_scope(data: TrainingData, pruning: dict[str, Any]) -> None:
    quiet = {"optimiser": {"kind": "adam", "lr": 1e-9}, "attack": {"kind": "pgd", "steps": 1}}
    first = learn(data, phase(pruning=pruning, **quiet))
    ranked = learn(data, phase(epochs=3, rerank=4, pruning=pruning, **quiet))
    sizes = {name: p.abs() for name, p in State.of(build(data)).params.items() if name in first.masks}
    if pruning.get("scope") == "global":
        kept = torch.cat([sizes[name][mask] for name, mask in ranked.masks.items()])
        lost = torch.cat([sizes[name][~mask] for name, mask in ranked.masks.items()])
        assert kept.min() >= lost.max() - 1e-6
    assert any(bool((ranked.masks[name] != mask).any()) for name, mask in first.masks.items())
