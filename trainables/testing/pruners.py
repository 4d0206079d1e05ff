"""What every pruner must do."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from trainables.core.spec import plain
from trainables.pruning import PRUNERS, Pruning
from trainables.pruning.base import Pruner, PrunerContext
from trainables.pruning.cut import prune
from trainables.pruning.network import Network
from trainables.store.state import State
from trainables.testing.trainings import FORMATS, data, network, pruned

SHAPE = (1, 8, 8)


def view(state: State, draws: torch.Generator, model: nn.Module | None = None) -> Network:
    """Show a pruner the network in a state, with 60 images."""

    def build(seed: int) -> nn.Module:
        with torch.random.fork_rng():
            return network(seed=seed)

    return Network(build(0) if model is None else model, state, data(), draws, build)


def context(
    share: float = 0.0, memory: torch.memory_format = torch.contiguous_format, seed: int = 1, seen: bool = True
) -> PrunerContext:
    """Return what a pruner sees of a network of which `share` is pruned already; without `seen` the weights alone."""
    model = network().to(memory_format=memory)
    state = State.of(model)
    state = pruned(state, share) if share else state
    draws = torch.Generator().manual_seed(seed)
    weights = {name: state.params[name] for name in state.prunable()}
    return PrunerContext(weights, state.masks, draws, view(state, draws, model) if seen else None)


def cut(pruner: Pruner, sparsity: float, state: State | None = None, seed: int = 1, **settings: Any) -> State:
    """Cut a network, by default the dense one."""
    pruning = Pruning(pruner=pruner, **settings)
    return prune(pruning, sparsity, state or State.of(network()), torch.Generator().manual_seed(seed), view)


def living(state: State) -> int:
    """Count the weights that are not pruned."""
    return sum(int(state.masks[name].sum()) for name in state.prunable())


class PrunerKit:
    """Tests of a pruner; make it fast enough for tests with few images, rounds and steps."""

    @pytest.fixture
    def pruner(self) -> Pruner:
        """Return the pruner to test."""
        raise NotImplementedError

    @pytest.mark.parametrize("share", [0.0, 0.5])
    @pytest.mark.parametrize("memory", FORMATS)
    def test_scores_are_finite_and_shaped_like_the_weights(self, pruner: Pruner, memory: str, share: float) -> None:
        given = context(share, FORMATS[memory])
        found = pruner.scores(given)
        assert found.keys() == given.weights.keys()
        for name, scores in found.items():
            assert scores.shape == given.weights[name].shape, name
            assert bool(scores.isfinite().all()), name
            assert not scores.requires_grad, name

    def test_memory_format_does_not_matter(self, pruner: Pruner) -> None:
        one, other = (pruner.scores(context(memory=memory)) for memory in FORMATS.values())
        for name, scores in one.items():
            torch.testing.assert_close(other[name], scores, rtol=1e-3, atol=1e-4 * float(scores.abs().max()))

    def test_repeats_exactly_and_draws_from_its_generator_alone(self, pruner: Pruner) -> None:
        given, again = context(), context()
        torch.manual_seed(123)
        before = torch.get_rng_state()
        first, second = pruner.scores(given), pruner.scores(again)
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(scores, second[name]) for name, scores in first.items())

    def test_leaves_weights_masks_and_network_alone(self, pruner: Pruner) -> None:
        given = context(0.5)
        model = given.network.model
        tensors = {**model.state_dict(), **{f"mask {name}": mask for name, mask in given.masks.items()}}
        tensors |= {f"weight {name}": weight for name, weight in given.weights.items()}
        before, mode = {name: t.clone() for name, t in tensors.items()}, model.training
        pruner.scores(given)
        assert all(torch.equal(t, before[name]) for name, t in tensors.items())
        assert model.training == mode
        assert all(p.grad is None for p in model.parameters())

    def test_says_truly_whether_it_needs_the_network(self, pruner: Pruner) -> None:
        if pruner.needs_network:
            with pytest.raises(ValueError, match="given weights alone"):
                pruner.scores(context(seen=False))
            return
        alone, seen = pruner.scores(context(seen=False)), pruner.scores(context())
        assert all(torch.equal(scores, seen[name]) for name, scores in alone.items())

    def test_accepts_a_network_that_it_can_score(self, pruner: Pruner) -> None:
        model = network()
        before = {name: t.clone() for name, t in model.state_dict().items()}
        pruner.check(model, SHAPE)
        assert model.training
        assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())

    @pytest.mark.parametrize("scope", ["global", "layerwise"])
    @pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.93])
    def test_exactly_the_budget_lives(self, pruner: Pruner, sparsity: float, scope: str) -> None:
        found = cut(pruner, sparsity, scope=scope)
        assert living(found) == found.size() - round(sparsity * found.size())
        for name in found.prunable():
            assert not bool(found.params[name][~found.masks[name]].any()), name

    @pytest.mark.parametrize("scope", ["global", "layerwise"])
    def test_what_is_cut_stays_cut(self, pruner: Pruner, scope: str) -> None:
        first = cut(pruner, 0.5, scope=scope)
        second = cut(pruner, 0.8, first, scope=scope)
        assert living(second) == second.size() - round(0.8 * second.size())
        assert all(not bool((second.masks[name] & ~first.masks[name]).any()) for name in first.prunable())
        same = cut(pruner, 0.3, first, scope=scope)
        assert living(same) == living(first)

    def test_equal_weights_are_cut_to_the_budget_too(self, pruner: Pruner) -> None:
        state = State.of(network())
        level = {name: torch.full_like(state.params[name], 0.1) for name in state.prunable()}
        state = State({**state.params, **level}, state.buffers, state.masks)
        one, other = (cut(pruner, 0.7, state) for _ in range(2))
        assert living(one) == state.size() - round(0.7 * state.size())
        assert all(torch.equal(one.masks[name], other.masks[name]) for name in state.prunable())

    def test_whole_filters_fit_the_budget(self, pruner: Pruner) -> None:
        found = cut(pruner, 0.5, structure="filter")
        assert 0 < living(found) <= found.size() - round(0.5 * found.size())

    def test_its_cuts_end_at_the_target(self, pruner: Pruner) -> None:
        for now, target in ((0.0, 0.9), (0.5, 0.6), (0.9, 0.5)):
            steps = pruner.sparsities(now, target)
            assert steps[-1] == target
            if now < target:
                assert list(steps) == sorted(steps)
                assert steps[0] > now

    def test_survives_json(self, pruner: Pruner) -> None:
        assert PRUNERS.parse(json.loads(json.dumps(plain(pruner)))) == pruner
