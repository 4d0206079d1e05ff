"""Rankings against brute force, and the arithmetic of rungs."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.early_stopping.base import Measurement, StoppingRule
from search.early_stopping.halving import RANKINGS, by_contribution, by_spread, survivors
from search.early_stopping.moasha import Moasha
from search.objectives import pareto

GRID = st.sampled_from([i / 8 for i in range(9)])


def tables(objectives: int) -> st.SearchStrategy[list[tuple[float, ...]]]:
    return st.lists(st.tuples(*[GRID] * objectives), min_size=1, max_size=14)


TABLES = st.integers(1, 3).flatmap(tables)


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def peeled(values: list[tuple[float, ...]]) -> list[list[int]]:
    """Layers by their definition: take off what nothing left dominates, again and again."""
    left, layers = list(range(len(values))), []
    while left:
        layer = [i for i in left if not any(dominates(values[j], values[i]) for j in left)]
        layers.append(layer)
        left = [i for i in left if i not in layer]
    return layers


@given(TABLES)
def test_layers_are_what_peeling_gives(values: list[tuple[float, ...]]) -> None:
    ranks = pareto.layers(values)
    assert [[i for i, rank in enumerate(ranks) if rank == layer] for layer in range(max(ranks) + 1)] == peeled(values)


def layer_of(values: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    return [values[i] for i in peeled(values)[0]]


@given(TABLES.map(layer_of))
def test_each_next_of_a_layer_is_furthest_from_all_before(layer: list[tuple[float, ...]]) -> None:
    order = by_spread(layer)
    expected = [max(range(len(layer)), key=lambda i: (layer[i][0], -i))]
    while len(expected) < len(layer):
        rest = [i for i in range(len(layer)) if i not in expected]
        expected.append(max(rest, key=lambda i: (min(math.dist(layer[i], layer[j]) for j in expected), -i)))
    assert sorted(order) == list(range(len(layer)))
    assert order == expected


@given(st.integers(2, 3).flatmap(tables).map(layer_of))
def test_what_adds_most_hypervolume_to_a_layer_comes_first(layer: list[tuple[float, ...]]) -> None:
    order = by_contribution(layer)
    whole = pareto.hypervolume(layer)
    shares = [whole - pareto.hypervolume([layer[i] for i in order if i != k]) for k in order]
    assert sorted(order) == list(range(len(layer)))
    assert shares == pytest.approx(sorted(shares, reverse=True))


@given(st.integers(1, 500), st.sampled_from([2.0, 3.0, 4.0, 1.5, 2.5]))
def test_one_in_eta_continues_and_at_least_one(entries: int, eta: float) -> None:
    assert survivors(entries, eta) == max(1, math.floor(entries / Fraction(eta)))


@pytest.mark.parametrize(
    ("grace", "eta", "rungs", "levels"),
    [(1, 3, 4, (1, 3, 9, 27)), (4, 2, 3, (4, 8, 16)), (1, 1.2, 4, (1, 2)), (2, 2.5, 3, (2, 5, 12))],
)
def test_rungs_are_eta_apart(grace: int, eta: float, rungs: int, levels: tuple[int, ...]) -> None:
    assert Moasha(grace=grace, eta=eta, max_rungs=rungs).levels == levels


def measured(resource: int, robust: float, target: float) -> Measurement:
    return Measurement(resource, (robust, 0.0), 0.0, (target,), 0.5)


def search(**settings: object) -> StoppingRule:
    return Moasha.model_validate({"grace": 1, "eta": 3, **settings}).build(("robust_accuracy", "sparsity"))


def test_a_trial_is_judged_once_at_each_rung_against_the_trials_that_reached_it() -> None:
    halving = search()
    assert not halving.report(0, measured(1, 0.5, 0.5)), "the first on a rung continues"
    assert halving.report(1, measured(1, 0.4, 0.4)), "dominated, and one of two continues"
    assert halving.report(2, measured(1, 0.3, 0.9)), "not dominated, but one of three continues: the most robust"
    assert not halving.report(0, measured(2, 0.1, 0.5)), "it was judged at this rung already"
    assert not halving.report(0, measured(3, 0.1, 0.5)), "no other trial has come this far"
    assert halving.state()["rungs"]["3"] == [[0, [0.1, 0.5]]]


def test_a_rung_that_is_jumped_over_stays_without_the_trial() -> None:
    halving = search()
    assert not halving.report(0, measured(4, 0.5, 0.5))
    assert halving.state()["rungs"]["1"] == []
    assert not halving.report(1, measured(1, 0.1, 0.1)), "it is the first on the lowest rung"


def test_a_trial_that_failed_is_no_rival_any_more() -> None:
    halving = search(eta=2)
    halving.report(0, measured(1, 0.9, 0.9))
    halving.end(0, "failed")
    assert not halving.report(1, measured(1, 0.1, 0.1))


def test_trials_are_compared_at_the_sparsity_they_aim_at() -> None:
    halving = search(eta=2)
    for number in range(3):
        halving.report(number, measured(1, 0.3 + number / 10, 0.9 - number / 10))
    assert not halving.report(3, measured(1, 0.31, 0.95)), "of equal sparsity now, and the sparsest in the end"
    assert halving.report(4, measured(1, 0.31, 0.5))


@settings(max_examples=50, deadline=None)
@given(tables(2), st.sampled_from(sorted(RANKINGS)), st.sampled_from([2.0, 3.0]))
def test_continued_trials_are_among_the_best_of_their_rung(
    values: list[tuple[float, float]], rank: str, eta: float
) -> None:
    halving = search(rank=rank, eta=eta)
    for number, (robust, target) in enumerate(values):
        entries = values[: number + 1]
        order = [layer[i] for layer in peeled(entries) for i in RANKINGS[rank]([entries[i] for i in layer])]
        assert halving.report(number, measured(1, robust, target)) == (
            order.index(number) >= survivors(len(entries), eta)
        )
