"""What rivals have in common: the space, trials that train a chain, and what is trained already."""

from __future__ import annotations

from typing import Any

from curves import Curves, dense_paths
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from simulator import Ledger, Wait, Work

from search.space.parameters import numbers

Params = dict[str, Any]

ROUNDS = "rounds"
"""The sparsity as a whole number, the rounds that reach it: to a model that is an order, which choices are not."""


def ordered(options: list[Any]) -> bool:
    """Return whether choices are numbers in their order: then methods search their position, which has an order."""
    known = numbers(options)
    return known is not None and known == sorted(known)


def distributions(curves: Curves, *, full: bool = False) -> dict[str, BaseDistribution]:
    """Return the study's space as Optuna's; without the number of rounds where every trial runs all."""
    found: dict[str, BaseDistribution] = {} if full else {ROUNDS: IntDistribution(1, len(curves.rungs))}
    for path, options in curves.choices.items():
        found[path] = IntDistribution(0, len(options) - 1) if ordered(options) else CategoricalDistribution(options)
    return found


def decoded(curves: Curves, params: Params) -> Params:
    """Return the values of parameters that a method chose, of ordered ones by their position."""
    return {
        path: curves.choices[path][value] if path != ROUNDS and ordered(curves.choices[path]) else value
        for path, value in params.items()
    }


class Trainings:
    """The trainings of a search; with `shared`, one that has ended is not repeated, and one under way waited for."""

    def __init__(self, curves: Curves, ledger: Ledger, *, shared: bool) -> None:
        self.curves, self._ledger, self._shared = curves, ledger, shared
        self._dense = dense_paths(curves.spec)
        self._ends: dict[tuple[Any, ...], int] = {}
        """The time at which each training that has begun ends, or has ended."""

    def train(self, params: Params, number: int) -> Work:
        """Train a round of a chain; 0 is the dense network."""
        if epochs := self.missing(params, number):
            self._ends[self._key(params, number)] = self._ledger.time + epochs
            yield epochs
        elif (left := self._ends.get(self._key(params, number), 0) - self._ledger.time) > 0:
            yield Wait(left)

    def missing(self, params: Params, number: int) -> int:
        """Return the epochs to train for a round: none where it is shared."""
        if self._shared and self._key(params, number) in self._ends:
            return 0
        return self.curves.round_epochs if number else self.curves.dense_epochs

    def _key(self, params: Params, number: int) -> tuple[Any, ...]:
        return (number, *(str(params[path]) for path in (self.curves.choices if number else self._dense)))


class Rival:
    """A method whose trials run from the start to their last round.

    `suggest` returns a token, what the method chose, and the values that this means.
    """

    def __init__(self, curves: Curves, ledger: Ledger, *, shared: bool = False) -> None:
        self.curves = curves
        self.ledger = ledger
        self._shared = shared
        self.trainings = Trainings(curves, ledger, shared=shared)

    def next(self) -> Work | None:
        suggestion = self.suggest()
        return None if suggestion is None else self.work(*suggestion)

    def work(self, token: Any, chosen: Params) -> Work:
        """Train the chain, report every round, and tell the last."""
        params = decoded(self.curves, chosen)
        chain = self.curves.chain(params)
        yield from self.trainings.train(params, 0)
        values: list[list[float]] = []
        for number in range(1, params[ROUNDS] + 1):
            yield from self.trainings.train(params, number)
            values.append(chain[number][-1].values)
            last = number == params[ROUNDS]
            self.ledger.measured(values[-1], last=last)
            if self._shared and not last:
                self.learn({**chosen, ROUNDS: number}, values[-1])
        self.tell(token, values)

    def suggest(self) -> tuple[Any, Params] | None:
        """Choose a trial; None where the method waits for the result of another."""
        raise NotImplementedError

    def tell(self, token: Any, values: list[list[float]]) -> None:
        """Take in what a trial measured, round by round."""
        raise NotImplementedError

    def learn(self, chosen: Params, values: list[float]) -> None:
        """Take in what a round before the last measured, as a trial of its own."""
        raise NotImplementedError


SHORT = 2
"""Trials before a model is asked where the startup is as short as ours."""
