"""What every rule of layer densities must do."""

from __future__ import annotations

import json

import pytest
import torch

from trainables.core.spec import plain
from trainables.pruning import LAYERS, Pruning
from trainables.pruning.cut import prune
from trainables.pruning.densities import LayerDensities, quotas
from trainables.store.state import State
from trainables.testing.pruners import context, living, view
from trainables.testing.trainings import FORMATS, network, pruned


class LayersKit:
    """Tests of a rule of layer densities; make it fast enough for tests with few images and steps."""

    @pytest.fixture
    def layers(self) -> LayerDensities:
        """Return the rule to test."""
        raise NotImplementedError

    @pytest.mark.parametrize("share", [0.0, 0.5])
    @pytest.mark.parametrize("memory", FORMATS)
    def test_budgets_are_exact_in_each_memory_format(self, layers: LayerDensities, memory: str, share: float) -> None:
        given = context(share, FORMATS[memory])
        alive = [int(mask.sum()) for mask in given.masks.values()]
        for total in (0, 1, sum(alive) // 10, sum(alive) // 2, sum(alive), 10 * sum(alive)):
            found = quotas(layers, total, given.weights, given.masks, given.network)
            assert sum(found) == min(total, sum(alive))
            assert all(0 <= quota <= limit for quota, limit in zip(found, alive, strict=True))

    def test_repeats_exactly_and_leaves_what_it_is_given(self, layers: LayerDensities) -> None:
        found = []
        for _ in range(2):
            given = context(0.5)
            before = {name: w.clone() for name, w in given.weights.items()}
            state = torch.get_rng_state()
            found.append(quotas(layers, 100, given.weights, given.masks, given.network))
            assert torch.equal(torch.get_rng_state(), state)
            assert all(torch.equal(w, before[name]) for name, w in given.weights.items())
            assert all(p.grad is None for p in given.network.model.parameters())
        assert found[0] == found[1]

    def test_says_truly_whether_it_needs_the_network(self, layers: LayerDensities) -> None:
        given = context()
        if layers.needs_network:
            with pytest.raises(ValueError, match="need the network"):
                quotas(layers, 100, given.weights, given.masks)
        else:
            seen = quotas(layers, 100, given.weights, given.masks, given.network)
            assert quotas(layers, 100, given.weights, given.masks) == seen

    @pytest.mark.parametrize("structure", ["unstructured", "filter"])
    def test_a_cut_keeps_the_budget(self, layers: LayerDensities, structure: str) -> None:
        pruning = Pruning(scope="layerwise", structure=structure, layers=layers)
        begin = pruned(State.of(network()), 0.2) if structure == "unstructured" else State.of(network())
        found = prune(pruning, 0.7, begin, torch.Generator().manual_seed(1), view)
        keep = found.size() - round(0.7 * found.size())
        assert living(found) == keep if structure == "unstructured" else 0 < living(found) <= keep

    def test_survives_json(self, layers: LayerDensities) -> None:
        assert LAYERS.parse(json.loads(json.dumps(plain(layers)))) == layers
