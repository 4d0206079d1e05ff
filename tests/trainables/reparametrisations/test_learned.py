"""Learned masks and factors, against closed forms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.func import functional_call

from trainables.attacks.noise import Noise
from trainables.core.rng import generator
from trainables.engine.optimisation import Optimisation
from trainables.losses.cross_entropy import Natural
from trainables.method.training import Training
from trainables.optimisers.sgd import Sgd
from trainables.pruning.densities import Erk, Igq, Lamp, LayerDensities, Uniform, quotas
from trainables.pruning.network import Network
from trainables.pruning.sensitivity import Sensitivity
from trainables.regularisers.norms import L1
from trainables.reparametrisations.learned import Rated, Scores
from trainables.reparametrisations.learned_filters import FilterGates
from trainables.reparametrisations.learned_weights import RatedWeights
from trainables.reparametrisations.twin import Twin, TwinFactors
from trainables.store.state import FORCED, State
from trainables.testing.trainings import KEY, data, end, network, phase, started


def state(seed: int = 0) -> State:
    torch.manual_seed(seed)
    return State.of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(50, 20), nn.Linear(20, 10)))


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def built(spec: Scores | Rated, begin: State) -> Any:
    """Build the effective weights; single weights need neither the network nor its images."""
    return spec.build(begin, draws(), nn.Module(), (3, 8, 8))


def test_scores_begin_in_proportion_to_the_weights() -> None:
    """sqrt(6 / fan_in) * w / max |w|: Kaiming's bound for the largest weight of a layer."""
    begin = state()
    effective = built(Scores(sparsity=0.9), begin)
    for name, fan_in in (("0.weight", 27), ("2.weight", 50), ("3.weight", 20)):
        scores, weight = effective.extras[f"scores/{name}"], begin.params[name]
        assert float(scores.detach().abs().max()) == pytest.approx((6 / fan_in) ** 0.5)
        torch.testing.assert_close(scores / scores.abs().max(), weight / weight.abs().max())


def test_each_layer_uses_its_highest_scores_and_exactly_the_budget() -> None:
    begin = state()
    effective = built(Scores(sparsity=0.83), begin)
    for scores in effective.extras.values():
        scores.data.normal_(generator=draws())
    used = effective.weights(begin.params, effective.extras, None)
    living = {name: w != 0 for name, w in used.items()}
    assert sum(int(mask.sum()) for mask in living.values()) == begin.size() - round(0.83 * begin.size())
    for name, mask in living.items():
        heights = effective.extras[f"scores/{name}"].detach().abs()
        assert float(heights[mask].min()) > float(heights[~mask].max())
        assert int(mask.sum()) == pytest.approx(0.17 * mask.numel(), abs=1)
        assert torch.equal(used[name], begin.params[name] * mask)
    folded = effective.fold(begin, effective.extras)
    assert {name: mask.tolist() for name, mask in folded.masks.items()} == {n: m.tolist() for n, m in living.items()}
    assert folded.nonzero() == begin.size() - round(0.83 * begin.size())
    assert folded.extras == {}


def test_the_gradient_goes_straight_through_the_choice() -> None:
    """To every score, chosen or not: that of its weight, times the weight and the score's sign; none to the weight."""
    begin = state()
    params = {name: p.clone().requires_grad_() for name, p in begin.params.items()}
    effective = built(Scores(sparsity=0.8), replace(begin, params=params))
    outer = {name: torch.randn(p.shape, generator=draws()) for name, p in params.items()}
    used = effective.weights(params, effective.extras, None)
    sum((w * outer[name]).sum() for name, w in used.items()).backward()  # type: ignore[union-attr]
    for name in used:
        scores = effective.extras[f"scores/{name}"]
        torch.testing.assert_close(scores.grad, (outer[name] * begin.params[name] * scores.sign()).detach())
        assert params[name].grad is None
    assert effective.frozen == {"0.weight", "2.weight", "3.weight"}
    assert built(Scores(sparsity=0.8, train_rest=False), begin).frozen == set(begin.params)


def test_what_is_pruned_is_never_chosen() -> None:
    begin = state()
    masks = {name: torch.rand(mask.shape, generator=draws()) > 0.7 for name, mask in begin.masks.items()}
    begin = replace(begin, masks=masks).masked()
    for effective in (built(Scores(sparsity=0.5), begin), built(Rated(sparsity=0.5), begin)):
        folded = effective.fold(begin, effective.extras)
        assert not any(bool((folded.masks[name] & ~mask).any()) for name, mask in masks.items())


def harp(sparsity: float = 0.9, begin: float = 0.3, **fields: float) -> tuple[RatedWeights, State]:
    start = state()
    return built(Rated(sparsity=sparsity, begin=begin, **fields), start), start


def test_densities_lie_between_the_floor_and_one() -> None:
    effective, _ = harp()
    torch.testing.assert_close(effective.densities(effective.extras), torch.full((3,), 0.3))
    assert float(effective.excess(effective.extras).detach()) == pytest.approx(2.0, rel=1e-5)
    for q, limit in ((-50.0, 0.01), (50.0, 1.0)):
        effective.extras["rates"].data.fill_(q)
        torch.testing.assert_close(effective.densities(effective.extras), torch.full((3,), limit))


def test_the_gradient_of_a_density_is_that_of_its_layers_mask_together() -> None:
    effective, start = harp()
    outer = {name: torch.randn(start.params[name].shape, generator=draws()) for name in start.masks}
    used = effective.weights(start.params, effective.extras, None)
    sum((w * outer[name]).sum() for name, w in used.items()).backward()  # type: ignore[union-attr]
    q = effective.extras["rates"].detach()
    slope = (1 - 0.01) * q.sigmoid() * (1 - q.sigmoid())
    wanted = torch.stack([(outer[name] * start.params[name]).sum() for name in start.masks]) * slope
    torch.testing.assert_close(effective.extras["rates"].grad, wanted)
    for (name, w), density in zip(used.items(), effective.densities(effective.extras).tolist(), strict=True):
        assert int(torch.count_nonzero(w)) == round(density * start.params[name].numel())


def test_the_penalty_grows_by_the_epoch_until_the_budget_is_reached() -> None:
    effective, _ = harp(gamma=0.01)
    for epoch in range(3):
        effective.begin(epoch)
        assert float(effective.penalty().detach()) == pytest.approx(0.01 * (epoch + 1) * 2.0, rel=1e-5)
    effective.extras["rates"].data.fill_(-50)
    effective.begin(3)
    assert float(effective.penalty().detach()) == 0
    effective.extras["rates"].data.fill_(50)
    for epoch in (4, 5):
        effective.begin(epoch)
        assert float(effective.penalty().detach()) == pytest.approx(0.03 * 9.0, rel=1e-5), "it grew again"


def test_a_budget_that_is_reached_from_the_start_may_be_left_in_the_first_epoch() -> None:
    effective, _ = harp(sparsity=0.7, gamma=0.01)
    effective.begin(0)
    effective.extras["rates"].data.fill_(50)
    effective.begin(1)
    assert float(effective.penalty().detach()) == pytest.approx(0.02 * (1 / 0.3 - 1), rel=1e-5)


def test_a_penalty_is_followed_to_the_budget_however_few_the_steps() -> None:
    """Sixty steps with the pull of 7,820: without a bound the first ones throw all densities to the floor."""
    effective, start = harp(sparsity=0.99, begin=0.1, gamma=0.1)
    optimisation = Optimisation(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(50, 20), nn.Linear(20, 10)),
        start.masks,
        Training(optimiser=Sgd(lr=0.05, momentum=0.9, weight_decay=0)),
        effective,
        penalty_factor=7820 / 60,
    )
    for _ in range(60):
        zero = torch.stack([tensor.sum() for tensor in effective.extras.values()]).sum() * 0
        optimisation.set_rate(0.05)
        optimisation.descend(zero)
    assert -0.3 < float(effective.excess(effective.extras).detach()) < 0.05
    assert float(effective.fold(start, effective.extras).notes[FORCED]) < 0.05


def test_a_step_of_the_rate_brings_the_excess_to_zero_to_first_order() -> None:
    effective, _ = harp(sparsity=0.9, begin=0.3, gamma=0.02)
    excess, rates = float(effective.excess(effective.extras).detach()), effective.extras["rates"]
    sizes = torch.tensor([216.0, 1000.0, 200.0])
    slope = (1 - 0.01) * rates.detach().sigmoid() * (1 - rates.detach().sigmoid()) * sizes / sizes.sum() / 0.1
    wanted = excess / (0.5 * 0.02 * float(slope.square().sum()))
    assert float(effective.followed(0.5)) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("q", "forced"), [(50.0, 0.9), (-50.0, 0.0)])
def test_the_share_that_is_cut_by_force_is_noted(q: float, forced: float) -> None:
    """Of all weights nine tenths are beyond a budget of a tenth; of fewer than the budget none are."""
    effective, start = harp(sparsity=0.9)
    effective.extras["rates"].data.fill_(q)
    assert float(effective.fold(start, effective.extras).notes[FORCED]) == pytest.approx(forced, abs=1e-6)


@pytest.mark.parametrize(("train_rest", "trained"), [(True, 4), (False, 0), ("norms", 2)])
def test_biases_and_batch_norms_are_trained_on_as_said(train_rest: Any, trained: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(50, 20))
    begin = State.of(model)
    free = begin.params.keys() - built(Scores(sparsity=0.5, train_rest=train_rest), begin).frozen
    assert len(free) == trained
    assert free <= {"0.bias", "1.weight", "1.bias", "3.bias"}
    assert train_rest != "norms" or free == {"1.weight", "1.bias"}


def test_the_final_mask_has_the_budget_with_densities_in_proportion() -> None:
    effective, start = harp(sparsity=0.9)
    effective.extras["rates"].data.copy_(torch.tensor([2.0, -1.0, 0.5]))
    folded = effective.fold(start, effective.extras)
    keep = start.size() - round(0.9 * start.size())
    assert folded.nonzero() == keep
    densities = effective.densities(effective.extras).tolist()
    sizes = [mask.numel() for mask in start.masks.values()]
    factor = keep / sum(d * n for d, n in zip(densities, sizes, strict=True))
    for mask, density, size in zip(folded.masks.values(), densities, sizes, strict=True):
        assert int(mask.sum()) == pytest.approx(factor * density * size, abs=1.5)


def test_a_step_descends_the_gradient_at_the_scores_that_are_worst_nearby() -> None:
    """One step on one batch, without an attack, computed again with torch alone; no other trained tensor is moved."""
    begin = State.of(network())
    spec = phase(epochs=1, batch=60, loss=Natural(), awp=0.3, optimiser=Sgd(lr=0.5, momentum=0, weight_decay=0))
    weights = Rated(sparsity=0.8, begin=0.4, gamma=0, s2ap=0.2, s2ap_warmup=0)
    found = end(started(spec.model_copy(update={"weights": weights}), begin)).checkpoint()
    order = torch.randperm(60, generator=generator(KEY, 0, "order"))
    x, y = data().train.pixels(order), data().train.y[order]
    model = begin.into(network()).train()
    effective = built(weights, begin)
    extras = effective.extras

    def slopes() -> dict[str, Tensor]:
        statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
        logits = functional_call(model, effective.weights(dict(model.named_parameters()), extras, None), (x,))
        found = torch.autograd.grad(nn.functional.cross_entropy(logits, y), list(extras.values()))
        for name, buffer in model.named_buffers():
            buffer.copy_(statistics[name])
        return dict(zip(extras, found, strict=True))

    before, up = {name: t.detach().clone() for name, t in extras.items()}, slopes()
    with torch.no_grad():
        for name, scores in extras.items():
            if name.startswith("scores/"):
                scores += 0.2 * scores.norm() * up[name] / up[name].norm()
    worst = slopes()
    assert not torch.equal(worst["scores/4.weight"], up["scores/4.weight"]), "the mask is another one there"
    for name, start in before.items():
        torch.testing.assert_close(found["extras"][name], start - 0.5 * worst[name])


@pytest.mark.parametrize("spec", [Scores(sparsity=0.5, s2ap=0.1), Rated(sparsity=0.5, s2ap=0.1)], ids=lambda s: s.kind)
def test_scores_alone_move_and_only_after_the_warmup(spec: Scores | Rated) -> None:
    effective = built(spec, state())
    names = [name for name in effective.extras if name.startswith("scores/")]
    assert len(names) == 3
    assert effective.climbs(0.24, awp=0.3) == dict.fromkeys(names, 0.0)
    assert effective.climbs(0.25, awp=0.3) == dict.fromkeys(names, 0.1)
    assert spec.s2ap_warmup == 0.25


@pytest.mark.parametrize("layers", [Erk(), Igq(), Lamp()], ids=lambda layers: layers.kind)
def test_layers_use_what_the_rule_gives_them(layers: LayerDensities) -> None:
    begin = state()
    weights = {name: begin.params[name] for name in begin.prunable()}
    keep = begin.size() - round(0.9 * begin.size())
    wanted = quotas(layers, keep, weights, begin.masks)
    assert wanted != quotas(Uniform(), keep, weights, begin.masks)
    effective = built(Scores(sparsity=0.9, layers=layers), begin)
    folded = effective.fold(begin, effective.extras)
    assert [int(folded.masks[name].sum()) for name in weights] == wanted
    effective = built(Rated(sparsity=0.9, begin=0.2, layers=layers), begin)
    shared = quotas(layers, round(0.2 * begin.size()), weights, begin.masks)
    densities = [quota / w.numel() for quota, w in zip(shared, weights.values(), strict=True)]
    limits = [min(max(density, 0.0110), 0.9989) for density in densities]
    assert effective.densities(effective.extras).tolist() == pytest.approx(limits, abs=1e-4)


def test_a_resumed_search_keeps_the_quotas_that_it_began_with() -> None:
    """Whatever a device makes of a rule that needs the network again."""
    spec = phase(epochs=2).model_copy(update={"weights": Scores(sparsity=0.5, layers=Lamp())})
    first = next(started(spec, State.of(network()))).checkpoint()
    first["kept"]["quotas"] = torch.tensor([20, 100])
    found = end(started(spec, State.of(network()), resume=(1, first))).state()
    assert [int(found.masks[name].sum()) for name in found.prunable()] == [20, 100]


def test_sensitivities_are_those_of_the_network_where_the_search_begins() -> None:
    rule = Sensitivity(examples=None, batch=60, attack=Noise(), eps=0.0, steps=2)
    begin = State.of(network())
    spec = phase(epochs=1).model_copy(update={"weights": Scores(sparsity=0.7, layers=rule)})
    found = end(started(spec, begin)).state()
    seen = Network(network(), begin, data(), draws())
    weights = {name: begin.params[name] for name in begin.prunable()}
    keep = begin.size() - round(0.7 * begin.size())
    wanted = quotas(rule, keep, weights, begin.masks, seen)
    assert [int(found.masks[name].sum()) for name in weights] == pytest.approx(wanted, abs=2)


def test_filters_begin_alike() -> None:
    with pytest.raises(ValidationError, match="whole filters begin alike"):
        Rated(sparsity=0.5, structure="filter", layers=Erk())


IMAGE = (3, 8, 8)


class Residual(nn.Module):
    """A stem, and two branches that are added: one behind a batch norm, one without and with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 3, padding=1)
        self.norm = nn.BatchNorm2d(10)
        self.one = nn.Conv2d(10, 12, 3, padding=1, bias=False)
        self.one_norm = nn.BatchNorm2d(12)
        self.two = nn.Conv2d(10, 12, 1)
        self.flat = nn.Flatten()
        self.head = nn.Linear(12 * 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.norm(self.stem(x)))
        x = nn.functional.relu(self.one_norm(self.one(x)) + self.two(x))
        logits: Tensor = self.head(self.flat(x))
        return logits


def channels(counts: str = "weights", **fields: float) -> tuple[FilterGates, Residual, State]:
    torch.manual_seed(1)
    model = Residual().eval()
    for norm in (model.norm, model.one_norm):
        nn.init.normal_(norm.weight, 1, 0.3)
        nn.init.normal_(norm.bias)
    start = State.of(model)
    spec = Rated.model_validate({"sparsity": 0.7, "structure": "filter", "counts": counts, **fields})
    found = spec.build(start, draws(), model, IMAGE)
    assert isinstance(found, FilterGates)
    for name in found.extras:
        found.extras[name].data.normal_(generator=draws())
    return found, model, start


def alive(found: FilterGates) -> dict[str, Tensor]:
    """Return, by layer, which filters have the highest absolute scores, as many as the density says."""
    layers = ("stem", "one", "two")
    kept = {}
    for layer, density in zip(layers, found.densities(found.extras).tolist(), strict=True):
        scores = found.extras[f"scores/{layer}.weight"].detach().abs()
        kept[layer] = scores >= scores.sort(descending=True).values[max(1, round(density * len(scores))) - 1]
    return kept


def test_filters_begin_by_their_mean_weight_and_where_about_the_wanted_density_is_left() -> None:
    torch.manual_seed(1)
    start = State.of(Residual())
    spec = Rated(sparsity=0.75, structure="filter")
    found = spec.build(start, draws(), Residual(), IMAGE)
    assert isinstance(found, FilterGates)
    assert set(found.extras) == {"rates", *(f"scores/{layer}.weight" for layer in ("stem", "one", "two"))}
    torch.testing.assert_close(found.densities(found.extras), torch.full((3,), 0.5))
    scores, weight = found.extras["scores/one.weight"].detach(), start.params["one.weight"]
    assert float(scores.max()) == pytest.approx((6 / 90) ** 0.5)
    torch.testing.assert_close(scores / scores.max(), (means := weight.abs().mean(dim=(1, 2, 3))) / means.max())


def test_a_filter_that_is_not_used_is_silent_with_its_bias_and_norm() -> None:
    found, model, start = channels()
    used, kept = found.weights(start.params, found.extras, None), alive(found)
    assert all(0 < int(filters.sum()) < len(filters) for filters in kept.values())
    x = torch.rand(5, *IMAGE)
    with torch.no_grad():
        after = functional_call(model, used, (x,))
        for layer in (model.norm, model.one_norm, model.two):
            assert layer.bias is not None
            dead = ~kept[{model.norm: "stem", model.one_norm: "one", model.two: "two"}[layer]]
            layer.weight[dead] = layer.bias[dead] = 0
        torch.testing.assert_close(after, model(x))


def test_the_gradient_of_a_gate_is_that_of_all_it_multiplies_and_a_density_has_its_layers_sum() -> None:
    found, _, start = channels()
    used = found.weights(start.params, found.extras, None)
    outer = {name: torch.randn(w.shape, generator=draws()) for name, w in used.items()}
    sum((w * outer[name]).sum() for name, w in used.items()).backward()  # type: ignore[union-attr]
    behind = {"stem": ("norm.weight", "norm.bias"), "one": ("one_norm.weight", "one_norm.bias")}
    q = found.extras["rates"].detach()
    slope = (1 - 0.03) * q.sigmoid() * (1 - q.sigmoid())
    for index, layer in enumerate(("stem", "one", "two")):
        names = behind.get(layer, ("two.weight", "two.bias"))
        gate = sum((outer[name] * start.params[name]).view(len(outer[name]), -1).sum(dim=1) for name in names)
        scores = found.extras[f"scores/{layer}.weight"]
        torch.testing.assert_close(scores.grad, gate * scores.detach().sign())
        assert found.extras["rates"].grad is not None
        torch.testing.assert_close(found.extras["rates"].grad[index], gate.sum() * slope[index])


@pytest.mark.parametrize(("counts", "positions"), [("weights", (1, 1)), ("macs", (64, 1))])
def test_the_penalty_counts_what_dies_and_falls_with_every_layer(counts: str, positions: tuple[int, int]) -> None:
    """Against the count written out: a weight is used if its filter is, and its input."""
    found, _, _ = channels(counts)
    kept = alive(found)
    a, b, c = (int(kept[layer].sum()) for layer in ("stem", "one", "two"))
    either = int((kept["one"] | kept["two"]).sum())
    conv, linear = positions
    whole = conv * (270 + 1080 + 120) + linear * 12 * 64 * 4
    used = conv * (27 * a + 9 * a * b + a * c) + linear * either * 64 * 4
    assert float(found.excess(found.extras).detach()) == pytest.approx(used / whole / 0.3 - 1, rel=1e-5)
    found.excess(found.extras).backward()  # type: ignore[no-untyped-call]
    q = found.extras["rates"].detach()
    # Where both branches live, or neither, each has half of what reads their sum.
    apart, both = int((kept["one"] != kept["two"]).sum()), int((kept["one"] == kept["two"]).sum())
    assert apart
    only = {layer: int((kept[layer] & (kept["one"] != kept["two"])).sum()) for layer in ("one", "two")}
    reads = {layer: linear * 64 * 4 * (only[layer] + both / 2) for layer in only}
    wanted = torch.tensor(
        [conv * 10 * (27 + 9 * b + c), conv * 12 * 9 * a + reads["one"], conv * 12 * a + reads["two"]]
    )
    wanted = wanted / whole / 0.3 * (1 - 0.03) * q.sigmoid() * (1 - q.sigmoid())
    torch.testing.assert_close(found.extras["rates"].grad, wanted)


def test_filters_are_cut_to_the_budget_with_densities_in_proportion() -> None:
    found, _, start = channels()
    end = found.fold(start, found.extras)
    keep = start.size() - round(0.7 * start.size())
    assert keep - 400 < end.nonzero() <= keep
    densities = found.densities(found.extras).tolist()
    shares = []
    for layer, density in zip(("stem", "one", "two"), densities, strict=True):
        living = end.params[f"{layer}.weight"].flatten(1).any(dim=1)
        heights = found.extras[f"scores/{layer}.weight"].detach().abs()
        assert float(heights[living].min()) > float(heights[~living].max())
        shares.append((int(living.sum()), density * len(living)))
    # One factor for all layers, to within a filter.
    assert max((n - 1) / share for n, share in shares) < min((n + 1) / share for n, share in shares)
    assert not bool(end.params["norm.bias"][~end.params["stem.weight"].flatten(1).any(dim=1)].any())


@pytest.mark.parametrize("init", ["kaiming_uniform", "ones"])
def test_factors_multiply_and_share_the_gradient(init: str) -> None:
    begin = state()
    effective = TwinFactors(Twin.model_validate({"init": init}), begin, draws())
    seconds: dict[str, Tensor] = {name: effective.extras[f"twin/second/{name}"] for name in begin.masks}
    if init == "ones":
        assert all(bool((t == 1).all()) for t in seconds.values())
    else:
        for name, t in seconds.items():
            bound = begin.params[name][0].numel() ** -0.5
            assert float(t.detach().abs().max()) <= bound
            assert float(t.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.2)
    params = {name: p.clone().requires_grad_() for name, p in begin.params.items()}
    made = effective.weights(params, effective.extras, None)
    sum(w.square().sum() for w in made.values()).backward()  # type: ignore[union-attr]
    for name, second in seconds.items():
        product = begin.params[name] * second.detach()
        torch.testing.assert_close(second.grad, 2 * product * begin.params[name])
        torch.testing.assert_close(params[name].grad, 2 * product * second.detach())


def test_factors_go_on_through_a_cut_and_are_folded_at_the_end() -> None:
    begin = state()
    effective = TwinFactors(Twin(), begin, draws())
    half = effective.fold(begin, effective.extras)
    for name in begin.masks:
        torch.testing.assert_close(
            half.params[name], begin.params[name] * effective.extras[f"twin/second/{name}"].detach()
        )
    masks = {name: torch.rand(mask.shape, generator=draws()) > 0.5 for name, mask in begin.masks.items()}
    cut = replace(half, masks=masks).masked()
    live = replace(cut, params={name: nn.Parameter(p.clone()) for name, p in cut.params.items()})
    again = TwinFactors(Twin(fold=True), live, draws())
    for name, mask in masks.items():
        assert torch.equal(live.params[name], begin.params[name] * mask)
        assert torch.equal(again.extras[f"twin/second/{name}"], effective.extras[f"twin/second/{name}"])
    end = again.fold(replace(live, params={n: p.detach() for n, p in live.params.items()}, extras={}), again.extras)
    assert end.extras == {}
    assert all(torch.equal(end.params[name], cut.params[name]) for name in masks)


def test_a_penalty_on_twin_weights_is_on_their_products() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3))
    begin = replace(State.of(model), params=dict(model.named_parameters()))
    effective = TwinFactors(Twin(), begin, draws())
    settings = Training(optimiser=Sgd(momentum=0, weight_decay=0), regularisers={"l1": L1(weight=0.5)})
    first, second = model[0].weight.detach().clone(), effective.extras["twin/second/0.weight"].detach().clone()
    zero = 0 * (model[0].weight.sum() + effective.extras["twin/second/0.weight"].sum())
    optimisation = Optimisation(model, begin.masks, settings, effective)
    optimisation.set_rate(0.1)
    optimisation.descend(zero)
    sign = 0.05 * (first * second).sign()
    torch.testing.assert_close(model[0].weight.detach(), first - sign * second)
    torch.testing.assert_close(effective.extras["twin/second/0.weight"].detach(), second - sign * first)
