from __future__ import annotations

from search.launch.sharing import Course, course, estimate
from search.space.parameters import Categorical
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


def test_trials_cost_what_they_train_that_none_before_them_has_trained() -> None:
    spec = imp(**{"recipe.sparsity": {"kind": "categorical", "choices": [0.5, 0.75, 0.875]}})
    found, estimated = course(spec), estimate(spec)
    assert len(found.after) == 30
    # The dense training and three rounds, all of them after a few trials.
    assert found.after[0] >= 10
    assert found.after[-1] == estimated.shared == 10 + 3 * 2
    assert found.work(30) == 30 + estimated.shared
    assert found.work(32) == 32 + estimated.shared, "later ones train nothing"


def test_parts_of_trials_count_in_proportion_and_those_beyond_the_counted_as_the_later_ones() -> None:
    found = Course((10, 10, 14, 16))
    assert [found.work(trials) for trials in (0, 0.5, 1, 1.5, 2, 2.25, 4)] == [0, 5.5, 11, 11.5, 12, 13.25, 20]
    assert found.work(6) == 20 + 2 * (1 + 3)
    assert Course((7,)).work(3) == 3 * (1 + 7)


def test_a_trial_that_is_impossible_trains_nothing() -> None:
    recipe = {"kind": "imp", "epochs": 10, "rate": 0.5, "sparsity": 0.5, "rewind": 4, "round_epochs": 2}
    space = {"recipe.epochs": {"kind": "categorical", "choices": [6, 8]}}
    spec = factories.study_spec(recipe=recipe, space=space, budget={"trials": 30})
    assert estimate(spec).shared == 6 + 8 + 2 * 2
    # Lowered afterwards, as a check of the space would have refused it.
    lower = Categorical(choices=(3, 8))
    found = estimate(spec.model_copy(update={"space": {"recipe.epochs": lower}}))
    assert (found.trials, found.shared) == (30, 8 + 2)


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
