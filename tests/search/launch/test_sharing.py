from __future__ import annotations

from search.launch.sharing import estimate
from search.study.spec import Budget
from tests.search import factories


def imp(**space: object) -> object:
    recipe = {"kind": "imp", "epochs": 10, "rate": 0.5, "rewind": "init", "round_epochs": 2}
    return factories.study_spec(recipe=recipe, space=space, budget={"trials": 30})


def test_a_grid_shares_what_a_continuum_does_not() -> None:
    sparsity = {"kind": "categorical", "choices": [0.5, 0.75]}
    grid = estimate(
        imp(**{"recipe.sparsity": sparsity, "recipe.train.eps": {"kind": "categorical", "choices": [0.1, 0.2]}})
    )
    # Two radii, each with a dense training and two rounds.
    assert grid.shared == 2 * (10 + 2 + 2)
    assert 30 * 12 <= grid.alone <= 30 * 14
    continuum = estimate(
        imp(**{"recipe.sparsity": sparsity, "recipe.train.eps": {"kind": "float", "low": 0.1, "high": 0.2}})
    )
    assert continuum.shared == continuum.alone
    assert continuum.factor == 1.0
    assert str(continuum) == f"30 random trials would train {continuum.alone} epochs, and share none"


def test_the_estimate_repeats_and_reads_as_a_sentence() -> None:
    spec = imp(**{"recipe.sparsity": {"kind": "float", "low": 0.0, "high": 0.9}})
    found = estimate(spec)
    assert found == estimate(spec)
    assert str(found).startswith(
        f"30 random trials would train {found.alone} epochs without sharing, {found.shared} with it: "
    )
    assert estimate(spec.model_copy(update={"budget": Budget(trials=1)})).factor == 1.0


def test_a_search_before_training_is_shared_by_what_trains_its_mask() -> None:
    """Twenty epochs that find a mask, which is trained from three starts: found weights, initial ones, new ones."""
    weights = {"kind": "categorical", "choices": ["found", "init", "random"]}
    recipe = {"kind": "shi2022", "epochs": 5, "search_epochs": 20, "sparsity": 0.5}
    found = estimate(factories.study_spec(recipe=recipe, space={"recipe.weights": weights}, budget={"trials": 30}))
    assert (found.alone, found.shared) == (30 * 25, 20 + 3 * 5)


def test_a_sampler_of_every_combination_is_counted_as_it_tries_them() -> None:
    sparsity = {"kind": "categorical", "choices": [0.5, 0.75]}
    radius = {"kind": "categorical", "choices": [0.0, 0.1, 0.2]}
    recipe = {"kind": "imp", "epochs": 10, "rate": 0.5, "rewind": "init", "round_epochs": 2}
    spec = factories.study_spec(
        recipe=recipe,
        space={"recipe.sparsity": sparsity, "recipe.train.eps": radius},
        sampler="grid",
        seeds=[0, 1],
        enqueue=[{"recipe.sparsity": 0.75, "recipe.train.eps": 0.0}],
    )
    found = estimate(spec)
    # Two seeds of three radii, each with one and with two rounds after the dense training.
    assert (found.trials, found.alone, found.shared) == (12, 2 * 3 * (12 + 14), 2 * 3 * 14)
    assert str(found) == "12 trials would train 156 epochs without sharing, 84 with it: 1.9 times fewer"
    first = estimate(spec.model_copy(update={"budget": Budget(trials=2)}))
    assert (first.alone, first.shared) == (2 * 14, 2 * 14)
    assert str(first) == "2 trials would train 28 epochs, and share none"
