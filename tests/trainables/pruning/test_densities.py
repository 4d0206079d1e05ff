"""Layer densities against their formulas, and budgets that add up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.core.spec import plain
from trainables.pruning import Pruning
from trainables.pruning.densities import Erk, Igq, LayerDensities, igq, lamp, quotas, share
from trainables.pruning.sensitivity import Sensitivity

LAYERS = st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=8)
SHAPES = [(16, 3, 3, 3), (32, 16, 3, 3), (64, 288), (10, 64)]


def _weights(shapes: list[tuple[int, ...]]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    draws = torch.Generator().manual_seed(3)
    weights = {str(at): torch.randn(shape, generator=draws) for at, shape in enumerate(shapes)}
    return weights, {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()}


@given(layers=LAYERS, part=st.floats(0, 1.2))
def test_shares_are_exact_within_limits_and_nearly_proportional(layers: list[tuple[int, float]], part: float) -> None:
    sizes = [size for size, _ in layers]
    limits = [round(size * alive) for size, alive in layers]
    total = round(sum(limits) * part)
    found = share(total, sizes, limits)
    assert sum(found) == min(total, sum(limits))
    assert all(0 <= quota <= limit for quota, limit in zip(found, limits, strict=True))
    free = [i for i in range(len(sizes)) if found[i] < limits[i]]
    densities = [found[i] / sizes[i] for i in free]
    if len(free) > 1:
        assert max(densities) - min(densities) <= max(2 / sizes[i] for i in free)


@given(layers=LAYERS, part=st.floats(0, 1.2))
def test_ideal_gas_quotas_are_exact_within_limits(layers: list[tuple[int, float]], part: float) -> None:
    sizes = [size for size, _ in layers]
    limits = [round(size * alive) for size, alive in layers]
    total = round(sum(limits) * part)
    found = igq(total, sizes, limits)
    assert sum(found) == min(total, sum(limits))
    assert all(0 <= quota <= limit for quota, limit in zip(found, limits, strict=True))


@pytest.mark.parametrize("density", [0.5, 0.1, 0.02])
def test_one_force_compresses_all_layers_of_an_ideal_gas(density: float) -> None:
    sizes = [10**4, 10**5, 3 * 10**6]
    found = igq(round(density * sum(sizes)), sizes, sizes)
    forces = [(n / quota - 1) / n for n, quota in zip(sizes, found, strict=True)]
    assert max(forces) / min(forces) == pytest.approx(1, rel=0.03)


def test_erk_densities_follow_the_sum_over_the_product_of_dimensions() -> None:
    """With the multiplier found as the papers' codes do: layers that would be more than dense are dense."""
    weights, masks = _weights(SHAPES)
    sizes = [w.numel() for w in weights.values()]
    for density in (0.05, 0.2, 0.5):
        total = round(density * sum(sizes))
        raw = [sum(shape) / size for shape, size in zip(SHAPES, sizes, strict=True)]
        dense: set[int] = set()
        while True:
            free = [i for i in range(len(sizes)) if i not in dense]
            factor = (total - sum(sizes[i] for i in dense)) / sum(raw[i] * sizes[i] for i in free)
            if not (over := {i for i in free if factor * raw[i] > 1}):
                break
            dense |= over
        exact = [sizes[i] if i in dense else factor * raw[i] * sizes[i] for i in range(len(sizes))]
        found = quotas(Erk(), total, weights, masks)
        assert sum(found) == total
        assert found == pytest.approx(exact, abs=1)


def test_lamp_scores_are_those_of_a_naive_loop() -> None:
    weight = torch.tensor([[0.5, -2.0, 0.0], [1.0, 0.25, -1.0]])
    mask = torch.tensor([[True, True, True], [True, False, True]])
    scores = lamp(weight, mask)
    living = [(abs(float(w)), i) for i, w in enumerate(weight.reshape(-1)) if mask.reshape(-1)[i]]
    # Among equals the one of higher index counts as the smaller, as everywhere.
    ordered = sorted(living, key=lambda item: (-item[0], item[1]))
    for place, (w, i) in enumerate(ordered):
        above = sum(v**2 for v, _ in ordered[: place + 1])
        assert float(scores.reshape(-1)[i]) == pytest.approx(w**2 / above)
    assert float(scores[1, 1]) == 0


@pytest.mark.parametrize("wrong", [[3, 4], [10], [11, -1]])
def test_a_rule_that_breaks_its_contract_is_refused(wrong: list[int]) -> None:
    class Wrong(LayerDensities):
        kind: str = "wrong"

        def shares(self, *given: Any) -> list[int]:
            return wrong

    weights, masks = _weights([(5, 2), (2, 2)])
    with pytest.raises(ValueError, match="wrong densities divide 10 weights as"):
        quotas(Wrong(), 10, weights, masks)


def test_rules_without_fields_are_written_as_their_names() -> None:
    """As they were written and hashed before a rule could have fields."""
    pruning = Pruning(scope="layerwise", layers=Igq())
    assert plain(pruning, defaults=False, hashed=True) == {"scope": "layerwise", "layers": "igq"}
    assert plain(pruning)["layers"] == "igq"
    assert plain(Sensitivity(steps=3), defaults=False) == {"kind": "mrs", "steps": 3}
