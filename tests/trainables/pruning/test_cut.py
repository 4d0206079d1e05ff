from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainables.errors import SpecError
from trainables.phases import Prune
from trainables.pruning import Pruning
from trainables.pruning.base import Pruner, Scene
from trainables.pruning.cut import prune, share
from trainables.state import State, Tensors


def _state(seed: int = 0) -> State:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return State.of(
            nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5), nn.Linear(5, 3))
        )


def _cut(state: State, sparsity: float, **settings: object) -> State:
    phase = Prune(sparsity=sparsity, pruning=Pruning.model_validate(settings))
    return prune(phase, state, torch.Generator().manual_seed(1))


def _alive(state: State) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in state.masks.items()}


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

    def scores(self, scene: Scene) -> Tensors:
        return {name: torch.full_like(w, torch.nan) for name, w in scene.weights.items()}


def test_scores_that_are_not_finite_are_an_error_of_the_pruner() -> None:
    phase = Prune(sparsity=0.5, pruning=Pruning().model_copy(update={"pruner": _Broken()}))
    with pytest.raises(ValueError, match=r"scores for 0\.weight are not finite"):
        prune(phase, _state(), torch.Generator())


@given(
    layers=st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=8),
    part=st.floats(0, 1.2),
)
def test_shares_are_exact_within_limits_and_nearly_proportional(layers: list[tuple[int, float]], part: float) -> None:
    sizes = [size for size, _ in layers]
    limits = [round(size * alive) for size, alive in layers]
    total = round(sum(limits) * part)
    quotas = share(total, sizes, limits)
    assert sum(quotas) == min(total, sum(limits))
    assert all(0 <= quota <= limit for quota, limit in zip(quotas, limits, strict=True))
    free = [i for i in range(len(sizes)) if quotas[i] < limits[i]]
    densities = [quotas[i] / sizes[i] for i in free]
    if len(free) > 1:
        assert max(densities) - min(densities) <= max(2 / sizes[i] for i in free)
