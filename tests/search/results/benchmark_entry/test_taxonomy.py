"""Recipes in the words of the benchmark, which has the same of the papers that they are of, but for some localities."""

from __future__ import annotations

from typing import Any

import pytest

from search.results.benchmark_entry import taxonomy
from trainables.recipes import RECIPES

BOARDS = [
    ({"kind": "hydra"}, "A", "1S", "Local Pruning (L)", "Least Importance Score (LIS)"),
    ({"kind": "harp"}, "A", "1S", "Global Pruning (G)", "Least Importance Score (LIS)"),
    ({"kind": "mad"}, "A", "1S", "Global Pruning (G)", "Least Importance Score (LIS)"),
    ({"kind": "radmm"}, "A", "1S", "Local Pruning (L)", "Solver Based LWM (SOLWM)"),
    ({"kind": "cosentino2019"}, "B", "IT", "Local Pruning (L)", "Lowest Weight Magnitude LWM"),
    ({"kind": "twin_rep"}, "D", None, "Global Pruning (G)", "Sparsity Based LWM (SPALWM)"),
    ({"kind": "flying_bird"}, "D", None, "Local Pruning (L)", "Lowest Weight Magnitude LWM"),
]


@pytest.mark.parametrize(("recipe", "pipeline", "rounds", "locality", "criterion"), BOARDS, ids=str)
def test_recipes_of_papers_are_named_in_its_words(
    recipe: dict[str, Any], pipeline: str, rounds: str | None, locality: str, criterion: str
) -> None:
    phases = RECIPES.parse({**recipe, "sparsity": 0.9}).phases()
    entry = taxonomy.entry(phases, "Ours_Doe2026", "")
    assert entry["Type of Pipeline:"].startswith(f"{pipeline}-Methods")
    assert entry.get(f"{pipeline}: OneShot (1S) vs Iterative (IT)") == rounds
    assert (entry["Pruning locality"], entry["Pruning criterion"]) == (locality, criterion)
    assert entry["Pruning structure"] == "Unstructured (US)"


def test_whole_filters_and_other_trainings_are_named() -> None:
    recipe = {"kind": "filter", "sparsity": 0.5, "train": {"loss": "natural"}}
    entry = taxonomy.entry(RECIPES.parse(recipe).phases(), "Ours_Doe2026", "")
    assert entry["Pruning structure"] == "Structured (S) filters"
    assert entry["A: Pretraining "] == "Natural Training (NT)"
