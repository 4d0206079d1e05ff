from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from tests.trainables.models.factories import Rows
from trainables.core.errors import SpecError
from trainables.method.phases import Prune
from trainables.pruning import Pruning
from trainables.pruning.base import Pruner, PrunerContext
from trainables.pruning.cut import below, prune
from trainables.recipes import RECIPES
from trainables.store.state import State, Tensors


def _state(seed: int = 0) -> State:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return State.of(
            nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5), nn.Linear(5, 3))
        )


def _cut(state: State, sparsity: float, **settings: object) -> State:
    return prune(Pruning.model_validate(settings), sparsity, state, torch.Generator().manual_seed(1))


def _alive(state: State) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in state.masks.items()}


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["magnitude", "random"])
@pytest.mark.parametrize("scope", ["global", "layerwise"])
@given(sparsity=st.floats(0, 0.99), again=st.floats(0, 0.99))
def test_the_budget_is_exact_and_what_was_cut_stays_cut(pruner: str, scope: str, sparsity: float, again: float) -> None:
    state = _state()
    first = _cut(state, sparsity, pruner=pruner, scope=scope)
    size = state.size()
    assert sum(_alive(first).values()) == size - round(sparsity * size)
    assert first.nonzero() == sum(_alive(first).values())
    second = _cut(first, again, pruner=pruner, scope=scope)
    assert sum(_alive(second).values()) == min(size - round(sparsity * size), size - round(again * size))
    for name, mask in second.masks.items():
        assert not bool((mask & ~first.masks[name]).any())


def test_global_magnitude_keeps_the_largest_weights_of_all() -> None:
    state = _state()
    cut = _cut(state, 0.6)
    kept = torch.cat([state.params[n][m].abs() for n, m in cut.masks.items()])
    lost = torch.cat([state.params[n][~m].abs() for n, m in cut.masks.items()])
    assert kept.min() >= lost.max()


def test_layerwise_takes_the_same_share_of_every_layer() -> None:
    cut = _cut(_state(), 0.5, scope="layerwise")
    for mask in cut.masks.values():
        assert abs(float(mask.float().mean()) - 0.5) <= 1 / mask.numel()


def test_ties_go_to_the_lower_index() -> None:
    state = _state()
    flat = State({n: torch.ones_like(p) for n, p in state.params.items()}, state.buffers, state.masks)
    kept = torch.cat([m.reshape(-1) for m in _cut(flat, 0.5).masks.values()])
    half = state.size() - round(0.5 * state.size())
    assert bool(kept[:half].all())
    assert not bool(kept[half:].any())


def test_a_layer_that_is_spared_keeps_all_and_the_others_make_up_for_it() -> None:
    state = _state()
    cut = _cut(state, 0.3, prune_first=False, prune_last=False)
    first, middle, last = cut.masks.values()
    assert bool(first.all())
    assert bool(last.all())
    assert int(middle.sum()) == state.size() - round(0.3 * state.size()) - first.numel() - last.numel()


def test_a_sparsity_that_the_open_layers_cannot_give_is_refused() -> None:
    with pytest.raises(SpecError, match=r"fewer than the layers that are not pruned hold \(0.weight\)"):
        _cut(_state(), 0.9, prune_first=False)


def test_channels_last_weights_are_cut_alike() -> None:
    state = _state()
    last = {n: p.to(memory_format=torch.channels_last) if p.dim() == 4 else p for n, p in state.params.items()}
    plain, strided = _cut(state, 0.7), _cut(State(last, state.buffers, state.masks), 0.7)
    for name in plain.masks:
        assert torch.equal(plain.masks[name], strided.masks[name])
        assert torch.equal(plain.params[name], strided.params[name])


class _Broken(Pruner):
    kind: str = "broken"

    def scores(self, context: PrunerContext) -> Tensors:
        return {name: torch.full_like(w, torch.nan) for name, w in context.weights.items()}


def test_scores_that_are_not_finite_are_an_error_of_the_pruner() -> None:
    pruning = Pruning().model_copy(update={"pruner": _Broken()})
    with pytest.raises(ValueError, match=r"scores for 0\.weight are not finite"):
        prune(pruning, 0.5, _state(), torch.Generator())


@pytest.mark.slow
@given(
    sparsity=st.floats(0, 0.97),
    layers=st.sampled_from(["erk", "igq", "lamp"]),
    pruner=st.sampled_from(["magnitude", "random"]),
)
def test_layer_densities_keep_the_budget(sparsity: float, layers: str, pruner: str) -> None:
    state = _state()
    cut = _cut(_cut(state, sparsity / 2), sparsity, pruner=pruner, scope="layerwise", layers=layers)
    assert sum(_alive(cut).values()) == state.size() - round(sparsity * state.size())
    assert cut.nonzero() == sum(_alive(cut).values())


def test_lamp_densities_with_magnitudes_rank_by_the_papers_score() -> None:
    state = _state()
    cut = _cut(state, 0.7, scope="layerwise", layers="lamp")
    scored = []
    for name, weight in state.params.items():
        if name in state.masks:
            flat = weight.double().reshape(-1)
            for i, w in enumerate(flat):
                scored.append((float(w**2 / sum(v**2 for v in flat if abs(v) >= abs(w))), name, i))
    best = sorted(scored, reverse=True)[: state.size() - round(0.7 * state.size())]
    for name, mask in cut.masks.items():
        assert sorted(i for _, n, i in best if n == name) == mask.reshape(-1).nonzero().flatten().tolist()


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "3:7"])
def test_a_pattern_keeps_the_largest_of_every_group(pattern: str) -> None:
    n, m = map(int, pattern.split(":"))
    torch.manual_seed(0)
    state = State.of(nn.Sequential(nn.Conv2d(9, 4, 3), nn.Flatten(), nn.Linear(16, 5)))
    last = {k: p.to(memory_format=torch.channels_last) if p.dim() == 4 else p for k, p in state.params.items()}
    cut = _cut(State(last, state.buffers, state.masks), 1 - n / m, structure=pattern)
    for name, mask in cut.masks.items():
        weight = state.params[name].abs()
        for start in range(0, weight.shape[1], m):
            group, kept = weight[:, start : start + m], mask[:, start : start + m]
            wanted = group >= group.sort(dim=1, descending=True).values[:, min(n, group.shape[1]) - 1 :][:, :1]
            assert torch.equal(kept, wanted)
    again = _cut(cut, 1 - n / m, structure=pattern)
    assert all(torch.equal(again.masks[name], mask) for name, mask in cut.masks.items())


def test_a_pattern_spares_what_is_not_pruned() -> None:
    cut = _cut(_state(), 0.5, structure="2:4", prune_last=False)
    assert bool(cut.masks["4.weight"].all())
    assert float(cut.masks["3.weight"].float().mean()) == 0.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"structure": "2:4"}, "a structure of 2:4 gives a sparsity of 0.5, not of 0.9"),
        ({"structure": "4:4"}, "4:4 cuts nothing"),
        ({"structure": "half"}, "structure"),
        ({"layers": "erk"}, "erk densities are for scope layerwise"),
    ],
)
def test_what_a_pruning_cannot_give_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Prune(sparsity=0.9, pruning=Pruning.model_validate(fields))


@pytest.mark.parametrize(("kind", "extra"), [("three_stage", {}), ("imp", {"rate": 0.2})])
def test_a_recipe_refuses_a_sparsity_its_pattern_cannot_give(kind: str, extra: dict[str, object]) -> None:
    sparsity = 0.9 if kind == "three_stage" else 0.5
    with pytest.raises(ValidationError, match=r"sparsity\n  a structure of 2:4 gives a sparsity of 0.5"):
        RECIPES.parse({"kind": kind, "sparsity": sparsity, "prune": {"structure": "2:4"}, **extra})


def test_rescaling_keeps_the_variance_of_every_sum() -> None:
    state = _state()
    plain, scaled = _cut(state, 0.6), _cut(state, 0.6, rescale=True)
    for name, mask in plain.masks.items():
        assert torch.equal(mask, scaled.masks[name])
        for row in range(len(mask)):
            living = int(mask[row].sum())
            if living:
                factor = (mask[row].numel() / living) ** 0.5
                torch.testing.assert_close(scaled.params[name][row], plain.params[name][row] * factor)


def test_a_threshold_cuts_what_is_below_it_and_nothing_else() -> None:
    state = _cut(_state(), 0.3)
    found = below(0.1, state)
    for name, mask in found.masks.items():
        assert torch.equal(mask, state.masks[name] & (state.params[name].abs() >= 0.1))
        assert int(torch.count_nonzero(found.params[name][~mask])) == 0


def test_attention_and_recurrent_weights_are_cut_and_have_no_filters() -> None:
    state = State.of(Rows())
    names = ("attention.in_proj_weight", "attention.out_proj.weight", "rows.weight_ih_l0", "rows.weight_hh_l0")
    assert state.prunable() == (*names, "hidden.weight", "head.weight")
    cut = _cut(state, 0.75, scope="layerwise")
    assert [int(cut.masks[name].sum()) for name in names] == [mask.numel() // 4 for mask in map(cut.masks.get, names)]
    halved = _cut(state, 0.5, structure="2:4")
    assert bool((halved.masks["attention.in_proj_weight"].view(24, 2, 4).sum(dim=2) == 2).all())
    filters = _cut(state, 0.05, structure="filter")
    assert all(bool(filters.masks[name].all()) for name in names if not name.endswith("proj.weight"))
    assert 0 < filters.nonzero() < state.size()


@pytest.mark.slow
@pytest.mark.parametrize("layers", ["uniform", "erk", "igq", "lamp", None])
@pytest.mark.parametrize("floor", [0, 3, 0.2])
@given(sparsity=st.floats(0, 0.7))
def test_a_floor_holds_in_every_layer_within_the_same_budget(layers: str | None, floor: float, sparsity: float) -> None:
    """Of 72, 80 and 15 weights; None is one ranking of all."""
    state = _state()
    settings = {"scope": "layerwise", "layers": layers} if layers else {"scope": "global"}
    cut = _cut(state, sparsity, floor=floor, **settings)
    assert sum(_alive(cut).values()) == state.size() - round(sparsity * state.size())
    for name, alive in _alive(cut).items():
        size = state.masks[name].numel()
        assert alive >= (floor if isinstance(floor, int) else round(floor * size)), name
        weights = state.params[name].abs()
        assert float(weights[cut.masks[name]].min()) >= float(weights[~cut.masks[name]].max() if alive < size else 0)


def test_a_floor_that_a_cut_meets_anyway_changes_nothing_and_one_beyond_the_budget_is_refused() -> None:
    state = _state()
    free = _cut(state, 0.9)
    floor = min(_alive(free).values())
    assert _alive(_cut(state, 0.9, floor=floor)) == _alive(free)
    assert all(torch.equal(mask, free.masks[name]) for name, mask in _cut(state, 0.9, floor=floor).masks.items())
    with pytest.raises(SpecError, match="a floor of 6 weights per layer holds 18 weights, and 17 are to be kept"):
        _cut(state, 0.9, floor=6)
    with pytest.raises(ValidationError, match="a floor is for single weights"):
        Pruning(structure="2:4", floor=1)
