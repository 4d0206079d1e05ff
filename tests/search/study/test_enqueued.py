from __future__ import annotations

import re

import pytest

from tests.search.studies import study
from trainables.core.errors import SpecError

QUEUES = {
    "outside": (
        "{recipe.sparsity: 0.99, recipe.rewind: init}",
        r"my.yaml:11:6 enqueue\[0\].recipe.sparsity: 0.99 is not in the space: 0.3 to 0.95",
    ),
    "no choice": (
        "{recipe.sparsity: 0.5, recipe.rewind: inti}",
        r"my.yaml:11:28 enqueue\[0\].recipe.rewind: 'inti' is not in the space: one of 'init', 3",
    ),
    "missing": ("{recipe.sparsity: 0.5}", r"my.yaml:11:5 enqueue\[0\]: 'recipe.rewind' is missing"),
    "unknown": (
        "{recipe.sparsity: 0.5, recipe.rewind: init, recipe.rewnd: 3}",
        r"enqueue\[0\].recipe.rewnd: 'recipe.rewnd' is not a parameter of the space; did you mean 'recipe.rewind'",
    ),
    "inactive": (
        "{recipe.sparsity: 0.5, recipe.rewind: init, recipe.rate: 0.3}",
        r"'recipe.rate' is not searched with these values",
    ),
    "no value": ("{recipe.sparsity: [1], recipe.rewind: init}", r"my.yaml:11:6 enqueue\[0\].recipe.sparsity"),
    "twice": (
        "{recipe.sparsity: 0.5, recipe.rewind: init}\n  - {recipe.rewind: init, recipe.sparsity: 0.5}",
        r"my.yaml:12:5 enqueue\[1\]: these are the parameters of an earlier one",
    ),
}


@pytest.mark.parametrize("case", QUEUES)
def test_enqueued_trials_that_cannot_be_are_refused_at_their_line(case: str) -> None:
    text, message = QUEUES[case]
    with pytest.raises(SpecError) as caught:
        study(
            "space:\n  recipe.sparsity: {kind: float, low: 0.3, high: 0.95}\n"
            "  recipe.rewind: {kind: categorical, choices: [init, 3]}\n  recipe.rate: "
            f"{{kind: float, low: 0.1, high: 0.5, when: {{recipe.rewind: 3}}}}\nenqueue:\n  - {text}\n"
        )
    assert re.search(message, str(caught.value)), str(caught.value)


def test_enqueued_values_may_be_written_otherwise() -> None:
    spec = study(
        "space:\n  recipe.train.regularisers.l1: {kind: categorical, choices: [0.0, 1e-5]}\n"
        "  recipe.sparsity: {kind: float, low: 0, high: 0.9}\n"
        "enqueue: [{recipe.sparsity: 0, recipe.train.regularisers.l1: 0}]\n"
    )
    (given,) = spec.enqueued()
    assert list(given.items()) == [("recipe.train.regularisers.l1", 0.0), ("recipe.sparsity", 0.0)]
    assert all(type(value) is float for value in given.values())


LOSSES = (
    "space:\n  recipe.train.loss.kind: {kind: categorical, choices: [natural, mix]}\n"
    "  recipe.train.attack.kind: {kind: categorical, choices: [fgsm, pgd], when: {recipe.train.loss.kind: mix}}\n"
    "  recipe.sparsity: {kind: float, low: 0.3, high: 0.95}\nenqueue:\n"
)


def test_lists_stand_for_every_combination_in_the_order_of_the_space() -> None:
    item = "  - {recipe.sparsity: [0.5, 0.9], recipe.train.loss.kind: [natural, mix], recipe.train.attack.kind: fgsm}\n"
    spec = study(LOSSES + item)
    assert [tuple(given.values()) for given in spec.enqueued()] == [
        ("natural", 0.5),
        ("natural", 0.9),
        ("mix", "fgsm", 0.5),
        ("mix", "fgsm", 0.9),
    ]
    assert study(LOSSES + item).enqueue[0]["recipe.sparsity"] == (0.5, 0.9), "the file says so as it is written"


PRODUCTS = {
    "outside": (
        "{recipe.sparsity: [0.5, 0.99], recipe.train.loss.kind: natural}",
        r"enqueue\[0\].recipe.sparsity: 0.99 is not in the space",
    ),
    "missing": ("{recipe.sparsity: [0.5, 0.6]}", r"enqueue\[0\]: 'recipe.train.loss.kind' is missing"),
    "unknown": (
        "{recipe.sparsity: [0.5, 0.6], recipe.train.loss.kind: natural, recipe.rte: 1}",
        r"'recipe.rte' is not a parameter of the space",
    ),
    "inactive": (
        "{recipe.sparsity: [0.5, 0.6], recipe.train.loss.kind: natural, recipe.train.attack.kind: [fgsm, pgd]}",
        r"'recipe.train.attack.kind' is not searched with any of these values",
    ),
    "twice": (
        "{recipe.sparsity: 0.5, recipe.train.loss.kind: natural}\n"
        "  - {recipe.sparsity: [0.5, 0.6], recipe.train.loss.kind: natural}",
        r"enqueue\[1\]: these are the parameters of an earlier one",
    ),
    "empty": ("{recipe.sparsity: [], recipe.train.loss.kind: natural}", r"enqueue\[0\].recipe.sparsity"),
    "too many": (
        "{recipe.sparsity: [" + ", ".join(f"{0.3 + at / 2000:g}" for at in range(1000)) + "], "
        "recipe.train.loss.kind: mix, recipe.train.attack.kind: [fgsm, pgd]}",
        r"enqueue\[0\]: these are more than 1,000 trials",
    ),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_products_that_cannot_be_are_refused(case: str) -> None:
    text, message = PRODUCTS[case]
    with pytest.raises(SpecError) as caught:
        study(f"{LOSSES}  - {text}\n")
    assert re.search(message, str(caught.value)), str(caught.value)
