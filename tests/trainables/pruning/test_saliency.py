"""Scores against independent computations: a mask variable, a whole Hessian, closed forms, exact traces."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.trainables.pruning.factories import MEAN, STD, build, close, context, data, network
from trainables.models.normalised import Normalise, Normalised
from trainables.pruning import PRUNERS, Pruning
from trainables.pruning.base import Pruner, PrunerContext
from trainables.pruning.cut import prune
from trainables.pruning.network import Network
from trainables.pruning.rates import Rates
from trainables.pruning.saliency import Grasp, Iterative, NtkSap, Snip, Synflow
from trainables.store.state import State, Tensors

LOOKING = ["snip", "grasp", "synflow", "ntk_sap", "mad"]


class Masked(nn.Module):
    """The network with its prunable weights multiplied by mask variables: what the scores are defined by."""

    def __init__(self, model: nn.Module, weights: Tensors) -> None:
        super().__init__()
        self.model, self.weights = model, weights
        self.masks = {name: torch.ones_like(w, requires_grad=True) for name, w in weights.items()}

    def forward(self, x: Tensor) -> Tensor:
        masked = {name: self.masks[name] * w for name, w in self.weights.items()}
        logits: Tensor = torch.func.functional_call(self.model, masked, (x,))
        return logits


@pytest.mark.parametrize("inputs", ["clean", "pgd", "noise"])
def test_snip_is_the_gradient_of_a_mask_variable(inputs: str) -> None:
    model = build()
    seen = context(model)
    pruner = Snip(examples=24, batch=24, inputs=inputs, eps=0.1)  # type: ignore[arg-type]
    ((x, y),) = pruner.batches(network(seen.network.state, model))
    masked = Masked(model.train(), dict(seen.weights))
    gradients = torch.autograd.grad(F.cross_entropy(masked(x), y), list(masked.masks.values()))
    close(pruner.scores(seen), {name: g.abs() for name, g in zip(masked.masks, gradients, strict=True)})


@pytest.mark.parametrize("normalise", [Normalise(MEAN, STD), None])
def test_noise_is_standard_where_the_layers_begin(normalise: Normalise | None) -> None:
    model = Normalised(nn.Sequential(nn.Flatten(), nn.Linear(72, 3)), normalise)
    noise = network(State.of(model), model).noise(2000)
    begun = noise if normalise is None else normalise(noise)
    torch.testing.assert_close(begun.mean((0, 2, 3)), torch.zeros(2), atol=0.02, rtol=0)
    torch.testing.assert_close(begun.std((0, 2, 3)), torch.ones(2), atol=0.02, rtol=0)


def test_snip_in_batches_is_snip_at_once_where_images_do_not_meet_in_batch_norm() -> None:
    model = build(batch_norm=False)
    whole, parts = (Snip(examples=24, batch=batch).scores(context(model)) for batch in (24, 7))
    close(parts, whole)


def test_adversarial_scores_are_those_of_worse_images_within_the_radius() -> None:
    model = build(batch_norm=False)
    seen = context(model)
    view = seen.network
    ((clean, y),) = Snip(examples=24).batches(network(view.state, model))
    ((worse, same),) = Snip(examples=24, inputs="pgd", eps=0.1).batches(network(view.state, model))  # type: ignore[arg-type]
    assert torch.equal(y, same)
    assert float((worse - clean).abs().max()) <= 0.1 + 1e-6
    with torch.no_grad():
        assert F.cross_entropy(view.logits({}, worse), y) > F.cross_entropy(view.logits({}, clean), y)


def test_grasp_is_weight_times_hessian_times_gradient() -> None:
    model = build().double()
    seen = context(model, sparsity=0.3)
    view = network(seen.network.state, model)
    pruner = Grasp(examples=24, batch=24, temperature=2.0)
    ((x, y),) = pruner.batches(view)
    x = x.double()
    names = list(seen.weights)
    flat = torch.cat([w.reshape(-1) for w in seen.weights.values()])

    def loss(vector: Tensor) -> Tensor:
        pieces = vector.split([seen.weights[name].numel() for name in names])
        weights = {name: p.view_as(seen.weights[name]) for name, p in zip(names, pieces, strict=True)}
        return F.cross_entropy(view.logits(weights, x, train=True) / 2, y)

    gradient = torch.func.grad(loss)(flat)
    hessian = torch.autograd.functional.hessian(loss, flat)
    product = (flat * (hessian @ gradient)).split([seen.weights[name].numel() for name in names])
    wanted = {name: p.view_as(seen.weights[name]).float() for name, p in zip(names, product, strict=True)}
    close({name: s.float() for name, s in pruner.scores(seen).items()}, wanted, 1e-3)


def test_grasp_keeps_what_the_gradient_flow_does_without_most_gladly() -> None:
    """The score is signed: removing a weight of high score lowers the gradient's norm, to first order."""
    model = build(batch_norm=False).double()
    seen = context(model)
    view = network(seen.network.state, model)
    pruner = Grasp(examples=24, batch=24, temperature=1.0)
    ((x, y),) = pruner.batches(view)

    def norm(weights: Tensors) -> float:
        leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
        value = F.cross_entropy(view.logits(leaves, x.double()), y)
        return float(sum(g.square().sum() for g in torch.autograd.grad(value, list(leaves.values()))))

    scores = pruner.scores(seen)
    step = 1e-5
    for name, w in seen.weights.items():
        place = int(scores[name].abs().argmax())
        less = w.clone()
        less.view(-1)[place] *= 1 - step
        slope = (norm({**seen.weights, name: less}) - norm(dict(seen.weights))) / step
        assert slope == pytest.approx(-2 * float(scores[name].view(-1)[place]), rel=0.02)


@pytest.mark.parametrize("normalise", [Normalise(MEAN, STD), Normalise(MEAN, (0.0, 0.3)), None])
def test_synflow_is_the_flow_through_each_weight_of_a_linear_chain(normalise: Normalise | None) -> None:
    """For two layers without biases the score of a weight is the product of what flows in, it, and what flows out."""
    layers = [nn.Flatten(), nn.Linear(72, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False)]
    model = Normalised(nn.Sequential(*layers), normalise)
    first, second = (p.detach().double().abs() for p in model.parameters())
    found = Synflow().scores(context(model))
    close(found, {"net.1.weight": first * second.sum(0)[:, None], "net.3.weight": second * first.sum(1)[None]}, 1e-6)


def test_synflow_is_conserved_from_layer_to_layer() -> None:
    model = build(batch_norm=False)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.zero_()
    model.net[4] = nn.ReLU()  # type: ignore[index, operator]
    flows = [float(score.sum()) for score in Synflow().scores(context(model)).values()]
    assert flows == pytest.approx([flows[0]] * 3, rel=1e-9)


def test_synflow_in_rounds_keeps_every_layer_where_one_cut_loses_some() -> None:
    model = Normalised(
        nn.Sequential(nn.Flatten(), nn.Linear(72, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 3)), None
    )
    once, often = (_cut(Synflow(rounds=rounds), model, 0.995) for rounds in (1, 100))
    assert not all(mask.any() for mask in once.masks.values())
    assert all(mask.any() for mask in often.masks.values())


@pytest.mark.slow
def test_ntk_sap_tends_to_the_gradient_of_the_kernels_trace() -> None:
    """E |f(w) - f(w + d)|^2 is epsilon^2 times the trace of J J^T for small changes; here J is exact."""
    model = Normalised(nn.Sequential(nn.Flatten(), nn.Linear(72, 4, bias=False), nn.Linear(4, 2, bias=False)), None)

    def rebuilt(seed: int) -> nn.Module:
        return model

    state = State.of(model)
    view = Network(model, state, data(), torch.Generator().manual_seed(0), rebuilt)
    seen = PrunerContext(state.params, state.masks, view.generator, view)
    found = NtkSap(samples=4000, batch=1, epsilon=1e-3).scores(seen)
    # z is new in each draw, so its second moment takes its place.
    moment = torch.eye(72)
    masks = {name: torch.ones_like(w, requires_grad=True) for name, w in state.params.items()}
    a, b = (state.params[name] for name in masks)
    m, n = masks.values()
    hidden = m * a @ moment @ (m * a).T
    energy = (n.square() * torch.diag(hidden)).sum()  # by the second layer, d f_k / d b_kj = n_kj h_j
    energy = energy + ((n * b).square().T @ torch.ones(2, 1) * (m.square() @ torch.diag(moment))[:, None]).sum()
    wanted = torch.autograd.grad(energy, list(masks.values()))
    for name, slope in zip(masks, wanted, strict=True):
        target = 1e-6 * 4000 * slope.abs()
        assert float(F.cosine_similarity(found[name].flatten(), target.flatten(), dim=0)) > 0.97
        assert float(found[name].sum() / target.sum()) == pytest.approx(1, abs=0.15)


def _cut(pruner: Pruner, model: nn.Module, sparsity: float, scope: str = "global") -> State:
    pruning = Pruning(pruner=pruner, scope=scope)  # type: ignore[arg-type]

    def view(state: State, draws: torch.Generator) -> Network:
        return Network(model, state, data(), draws, build)

    return prune(pruning, sparsity, State.of(model), torch.Generator().manual_seed(5), view)


@pytest.mark.parametrize("kind", LOOKING)
@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_the_budget_is_exact_in_rounds_and_the_workshop_is_left_alone(kind: str, scope: str) -> None:
    model = build()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    pruner = PRUNERS.parse({"kind": kind, "rounds": 3})
    cut = _cut(pruner, model, 0.77, scope)
    assert cut.nonzero() == cut.size() - round(0.77 * cut.size())
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    again = _cut(pruner, model, 0.77, scope)
    assert all(torch.equal(mask, again.masks[name]) for name, mask in cut.masks.items())


@pytest.mark.parametrize("kind", LOOKING)
def test_memory_formats_are_scored_alike_to_the_bit(kind: str) -> None:
    model = build()
    found = []
    for form in (torch.contiguous_format, torch.channels_last):
        state = State.of(model)
        params = {n: p.contiguous(memory_format=form) if p.dim() == 4 else p for n, p in state.params.items()}
        view = network(State(params, state.buffers, state.masks), model.to(memory_format=form))  # type: ignore[call-overload]
        weights = {name: params[name] for name in state.masks}
        found.append(PRUNERS.parse({"kind": kind}).scores(PrunerContext(weights, state.masks, view.generator, view)))
    for name, score in found[0].items():
        assert torch.equal(score, found[1][name])


def test_the_density_falls_by_the_same_factor_in_each_round() -> None:
    class Any_(Iterative):
        kind: str = "any"

        def scores(self, context: PrunerContext) -> Tensors:
            return {}

    path = Any_(rounds=4).sparsities(0.2, 0.95)
    densities = [0.8, *(1 - sparsity for sparsity in path)]
    factors = [b / a for a, b in itertools.pairwise(densities)]
    assert path[-1] == 0.95
    assert factors == pytest.approx([factors[0]] * 4)
    assert Any_(rounds=4).sparsities(0.5, 0.5) == (0.5,)
    assert Any_().sparsities(0.0, 0.9) == (0.9,)


def test_saliency_needs_a_network_beside_the_weights() -> None:
    with pytest.raises(ValueError, match="was given weights alone"):
        prune(Pruning(pruner=Snip()), 0.5, State.of(build()), torch.Generator())


def test_a_radius_that_forgets_the_pixel_range_is_refused() -> None:
    fields: dict[str, Any] = {"kind": "snip", "eps": 8}
    with pytest.raises(ValueError, match="did you mean 8/255"):
        PRUNERS.parse(fields)


@pytest.mark.parametrize("exact", [False, True])
def test_rates_are_taken_once_however_many_rounds_a_pruner_has(exact: bool) -> None:
    model = build()
    state = State.of(model)
    rates = Rates(rate=0.2, last=0.1, exact=exact)
    prunings = (Pruning(pruner=Synflow(rounds=rounds), scope="layerwise") for rounds in (50, 1))
    found, wanted = (
        prune(pruning, 0.2, state, torch.Generator(), lambda s, draws: network(s, model), rates).masks
        for pruning in prunings
    )
    assert {n: int(mask.sum()) for n, mask in found.items()} == {n: int(mask.sum()) for n, mask in wanted.items()}


def test_pruners_say_whether_they_need_the_network() -> None:
    state = State.of(build())
    weights = PrunerContext({name: state.params[name] for name in state.masks}, state.masks, torch.Generator())
    for kind in PRUNERS:
        if PRUNERS[kind].needs_network:
            with pytest.raises(ValueError, match="was given weights alone"):
                PRUNERS.parse(kind).scores(weights)
        else:
            assert PRUNERS.parse(kind).scores(weights).keys() == state.masks.keys()
