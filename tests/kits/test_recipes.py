"""Every registered recipe, by its kit; a new one needs a small form here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainables.recipes import RECIPES
from trainables.recipes.base import Recipe
from trainables.testing.recipes import RecipeKit, small

SMALL: dict[str, dict[str, Any]] = {
    "three_stage": {"epochs": 2, "finetune_epochs": 2},
    "imp": {"epochs": 2, "rate": 0.5, "rewind": 1},
    "guo2018": {"epochs": 2, "retrain_epochs": 1, "train": {"activation_l1": 1e-5, "validate_on": 50}},
    "cosentino2019": {"epochs": 2, "rate": 0.5, "last_rate": 0.3, "train": {"validate_on": 50}},
    "wang2020": {"epochs": 2, "rounds": 2, "retrain_epochs": 1, "weights": "rewound", "large": "none"},
    "hydra": {"epochs": 2, "prune_epochs": 2, "finetune_epochs": 1},
    "harp": {"epochs": 2, "prune_epochs": 2, "finetune_epochs": 1, "begin": 0.5},
    "radmm": {"epochs": 2, "admm_epochs": 3, "update_epochs": 1, "rho": 1e-5, "retrain_epochs": 2},
    "twin_rep": {"epochs": 4, "prune_epoch": 2},
    "mad": {"epochs": 2, "finetune_epochs": 2},
    "rakin2019": {"epochs": 2, "finetune_epochs": 2, "train": {"loss": "mix", "regularisers": {"l1": 1e-9}}},
    "shi2022": {"epochs": 2, "search_epochs": 3, "imitation": {"rerank": 2, "attack": {"kind": "pgd", "steps": 2}}},
    "gradual": {"epochs": 3, "every": 2},
    "flying_bird": {"epochs": 4, "dynamics": {"every": 2}, "train": {"select": 50}},
    "filter": {"epochs": 2, "finetune_epochs": 2},
}
"""By recipe, what makes it run in about a second: fields of the recipe, beside those that `small` sets.

`MODELS` names another network where the kit's will not do.
"""
MORE: dict[str, dict[str, Any]] = {
    "guo2018 splicing": {"kind": "guo2018", "epochs": 2, "retrain_epochs": 2, "splice": True},
    "harp-filter": {**SMALL["harp"], "kind": "harp", "structure": "filter", "counts": "macs"},
}
"""Other ways of a recipe, that are tested as well; each names its kind."""
MODELS: dict[str, Any] = {"guo2018": {"kind": "lenet300", "hidden": [32, 16], "active": 0.5}}
NOMINAL = {"cosentino2019": 0.05}
"""By recipe, how far measurements on the way may be from the sparsity that they stand for."""
COARSE = {"filter": 0.02, "harp-filter": 0.03}
"""By form, how much sparser than asked a network may be, where not single weights are cut."""
SLOW = {"shi2022", "cosentino2019"}


class TestRecipes(RecipeKit):
    test_broken_off_anywhere_it_ends_with_the_same_bits = pytest.mark.slow(
        RecipeKit.test_broken_off_anywhere_it_ends_with_the_same_bits
    )

    @pytest.fixture(
        params=[pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in (*RECIPES, *MORE)]
    )
    def form(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def recipe(self, form: str) -> Recipe:
        fields = {**SMALL, **MORE}.get(form)
        assert fields is not None, f"give {form} a small form in {Path(__file__).name}"
        return small(**{"kind": form, **fields})

    @pytest.fixture
    def model(self, form: str) -> dict[str, Any]:
        return MODELS.get(form, {"kind": "lenet300", "hidden": [32, 16]})

    @pytest.fixture
    def tolerances(self, form: str) -> tuple[float, float]:
        return NOMINAL.get(form, 0.0), COARSE.get(form, 0.0)
