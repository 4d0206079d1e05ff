from __future__ import annotations

import pytest

from search.launch.ask_tell import Sampling
from search.samplers.grid import Grid
from tests.search.studies import study
from trainables.core.errors import SpecError

SPACE = (
    "space:\n  recipe.train.loss.kind: {kind: categorical, choices: [natural, mix]}\n"
    "  recipe.train.attack.kind: {kind: categorical, choices: [fgsm, pgd], when: {recipe.train.loss.kind: mix}}\n"
    "  recipe.sparsity: {kind: float, low: 0.5, high: 0.9, step: 0.2}\nsampler: grid\n"
)
EVERY = [(*loss, sparsity) for loss in (("natural",), ("mix", "fgsm"), ("mix", "pgd")) for sparsity in (0.5, 0.7, 0.9)]


def test_a_grid_has_every_combination_once_and_then_ends() -> None:
    spec = study(SPACE)
    assert spec.planned == len(EVERY)
    sampling = Sampling(spec)
    assert [tuple(sampling.ask(number)[0].values()) for number in range(len(EVERY))] == EVERY


def test_what_is_enqueued_is_not_tried_again_and_is_counted_once() -> None:
    item = "enqueue: [{recipe.train.loss.kind: mix, recipe.train.attack.kind: pgd, recipe.sparsity: [0.5, 0.6]}]\n"
    spec = study(SPACE.replace("step: 0.2", "step: 0.1").replace("0.7, 0.9", "") + item)
    assert spec.planned == 15
    sampling = Sampling(spec)
    given = [sampling.ask(number, params)[0] for number, params in enumerate(spec.enqueued())]
    found = [sampling.ask(number)[0] for number in range(2, 15)]
    assert not [params for params in found if params in given]


def test_the_budget_cuts_a_grid_and_replicates_multiply_it() -> None:
    assert study(f"{SPACE}budget: {{trials: 4}}\n").planned == 4
    assert study(f"{SPACE}budget: {{trials: 99}}\n").planned == 9
    assert study(f"{SPACE}seeds: [3, 4]\n").planned == 18


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        ("recipe.sparsity: {kind: float, low: 0, high: 0.8}", [0.0, 0.2, 0.4, 0.6, 0.8]),
        ("recipe.train.optimiser.lr: {kind: float, low: 1e-4, high: 1, log: true}", [1e-4, 1e-3, 1e-2, 0.1, 1.0]),
        ("recipe.sparsity: {kind: float, low: 0, high: 0.3, step: 0.1}", [0.0, 0.1, 0.2, 0.3]),
        ("recipe.epochs: {kind: int, low: 1, high: 3}", [1, 2, 3]),
        ("recipe.epochs: {kind: int, low: 1, high: 81, log: true}", [1, 3, 9, 27, 81]),
        ("recipe.epochs: {kind: int, low: 10, high: 70, step: 10}", [10, 20, 30, 40, 50, 60, 70]),
        ("recipe.epochs: {kind: int, low: 7, high: 7}", [7]),
    ],
)
def test_ranges_are_spaced_evenly_from_end_to_end(parameter: str, values: list[float]) -> None:
    (found,) = study(f"space:\n  {parameter}\n").space.values()
    assert found.spaced(5) == pytest.approx(values, rel=1e-9)
    assert all(found.contains(value) for value in found.spaced(5))
    assert [type(value) for value in found.spaced(5)] == [type(value) for value in values]


def test_a_grid_that_is_too_large_is_refused() -> None:
    wide = "".join(f"  recipe.{name}: {{kind: float, low: 0.1, high: 0.5}}\n" for name in ("rate", "sparsity"))
    with pytest.raises(SpecError, match="sampler: this space has more than 10,000 combinations"):
        study(f"space:\n{wide}sampler: {{kind: grid, values: 101}}\n")
    assert len(list(Grid(values=3).every(study(f"space:\n{wide}").space))) == 9
