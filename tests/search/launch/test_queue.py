from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from search.launch.queue import Order
from tests.search import factories
from trainables.store.records import TrialRecord


def record(number: int) -> TrialRecord:
    return factories.trial(number)


RECORDS = [record(number) for number in range(12)]


def numbers(order: Order) -> list[int]:
    """Take all that can start now."""
    found = []
    while (taken := order.take()) is not None:
        found.append(taken.number)
    return found


def test_the_stage_that_most_wait_for_comes_first_then_the_lowest_number() -> None:
    order = Order()
    for number, needs in enumerate([["a"], ["b", "b1"], ["b", "b2"], ["c"]]):
        order.add(RECORDS[number], needs)
    assert numbers(order) == [1, 0, 3]
    assert list(order) == [2]
    order.store(["b"])
    assert numbers(order) == [2]


def test_a_trial_whose_stages_are_all_stored_waits_for_nobody() -> None:
    order = Order()
    order.add(RECORDS[0], ["a", "b"])
    assert numbers(order) == [0]
    order.store(["a"])
    order.add(RECORDS[1], ["a"])
    order.add(RECORDS[2], [])
    assert sorted(numbers(order)) == [1, 2]


def test_what_was_dropped_has_to_be_trained_again() -> None:
    order = Order()
    order.store(["a"])
    order.drop(["a"])
    order.add(RECORDS[0], ["a"])
    order.add(RECORDS[1], ["a"])
    assert numbers(order) == [0]
    order.end(0)
    assert numbers(order) == [1]


@given(st.lists(st.lists(st.integers(0, 2), max_size=4), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_every_stage_is_trained_once_and_everybody_gets_a_turn(chains: list[list[int]], draw: random.Random) -> None:
    # A chain of choices names its stages by all choices so far, as phase keys do.
    needs = {n: ["".join(map(str, chain[: i + 1])) for i in range(len(chain))] for n, chain in enumerate(chains)}
    order = Order()
    for number, keys in needs.items():
        order.add(RECORDS[number], keys)
    trained: list[str] = []
    running: dict[int, list[str]] = {}
    ended = 0
    while ended < len(chains):
        for number in numbers(order):
            running[number] = [key for key in needs[number] if key not in trained]
            others = [key for other, keys in running.items() if other != number for key in keys]
            assert not set(running[number][:1]) & set(others), "it would wait for another, or do its work again"
        assert running, "everybody waits for nobody"
        number = draw.choice(sorted(running))
        if running[number]:
            trained.append(running[number].pop(0))
            order.store(trained[-1:])
        else:
            del running[number]
            order.end(number)
            ended += 1
    assert sorted(trained) == sorted({key for keys in needs.values() for key in keys})
