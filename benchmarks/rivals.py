"""The rivals, each with its own real code: Optuna, Ray Tune's OptunaSearch and Syne Tune's MOASHA.

They share no training, so every trial trains from its initialisation. The measurements at the end of each round count
for their front anyway.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from curves import REWIND, SPARSITY, Curves
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from simulator import Ledger, Work

Params = dict[str, Any]


ROUNDS = "rounds"
"""The sparsity as a whole number, the rounds that reach it: to a model that is an order, which choices are not."""


def distributions(curves: Curves, *, full: bool = False) -> dict[str, BaseDistribution]:
    """Return the study's space as Optuna's; without the number of rounds where every trial runs all."""
    space = curves.spec.space
    found: dict[str, BaseDistribution] = {ROUNDS: IntDistribution(1, len(curves.rungs))}
    found |= {path: CategoricalDistribution(space[path].choices) for path in space if path != SPARSITY}
    return {path: one for path, one in found.items() if path != ROUNDS or not full}


class _Rival:
    """A method whose trials run from the start to their last round."""

    def __init__(self, curves: Curves, ledger: Ledger) -> None:
        self.curves = curves
        self.ledger = ledger

    def next(self) -> Work | None:
        token, params = self.suggest()
        return self.work(token, params)

    def work(self, token: Any, params: Params) -> Work:
        """Train the chain, report every round, and tell the last."""
        chain = self.curves.chain(params)
        yield self.curves.dense_epochs
        values = chain[0][-1].values
        for number in range(1, params[ROUNDS] + 1):
            yield self.curves.round_epochs
            values = chain[number][-1].values
            self.ledger.measured(values, last=number == params[ROUNDS])
        self.tell(token, values)

    def suggest(self) -> tuple[Any, Params]:
        raise NotImplementedError

    def tell(self, token: Any, values: list[float]) -> None:
        raise NotImplementedError


def multivariate(seed: int) -> BaseSampler:
    """Optuna's TPE with joint densities, aware of running trials."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed)


def gp(seed: int) -> BaseSampler:
    """Optuna's Gaussian processes."""
    return GPSampler(seed=seed)


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: RandomSampler(seed=seed),
    "tpe": multivariate,
    "nsga2": lambda seed: NSGAIISampler(population_size=20, seed=seed),
    "gp": gp,
}


class Optuna(_Rival):
    """Optuna alone, by ask and tell. With `full`, every trial runs all rounds."""

    def __init__(self, curves: Curves, ledger: Ledger, sampler: str, seed: int, full: bool = False) -> None:
        super().__init__(curves, ledger)
        self._fixed = {ROUNDS: len(curves.rungs)} if full else {}
        self._space = distributions(curves, full=full)
        self._study = optuna.create_study(directions=["maximize", "maximize"], sampler=SAMPLERS[sampler](seed))

    def suggest(self) -> tuple[Any, Params]:
        trial = self._study.ask(self._space)
        return trial, {**trial.params, **self._fixed}

    def tell(self, token: Any, values: list[float]) -> None:
        self._study.tell(token, values)


class TuneOptuna(_Rival):
    """Ray Tune's OptunaSearch with two objectives, called as Tune's loop calls it; `sampler` None is its default."""

    def __init__(self, curves: Curves, ledger: Ledger, sampler: str | None, seed: int) -> None:
        from ray.tune.search.optuna import OptunaSearch

        super().__init__(curves, ledger)
        chosen = {"sampler": SAMPLERS[sampler](seed)} if sampler else {"seed": seed}
        self._search = OptunaSearch(distributions(curves), metric=["robust", "sparsity"], mode=["max", "max"], **chosen)
        self._issued = 0

    def suggest(self) -> tuple[Any, Params]:
        self._issued += 1
        token = f"trial-{self._issued}"
        params = self._search.suggest(token)
        assert params is not None
        return token, params

    def tell(self, token: Any, values: list[float]) -> None:
        result = dict(zip(("robust", "sparsity"), values, strict=True))
        self._search.on_trial_result(token, result)
        self._search.on_trial_complete(token, result)


class Moasha:
    """Syne Tune's MOASHA, which draws at random and stops what ranks low.

    `resource` is what its rungs are in. `rounds`: every trial climbs the whole ladder and reports each round, so that
    a rung compares networks of one sparsity. `epochs`: the number of rounds is drawn as well, and every
    epoch reports the sparsity that the trial will end with.
    """

    def __init__(
        self, curves: Curves, ledger: Ledger, seed: int, resource: str, grace: int, factor: float, brackets: int = 1
    ) -> None:
        from syne_tune.config_space import choice, randint
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

        # Syne Tune draws from the global generators.
        random.seed(seed)
        np.random.seed(seed)
        self.curves, self.ledger = curves, ledger
        space: dict[str, Any] = {
            # It wants choices of one type; the curves take a way to rewind as text as well.
            path: choice([str(value) for value in parameter.choices] if path == REWIND else list(parameter.choices))
            for path, parameter in curves.spec.space.items()
            if path != SPARSITY
        }
        self._top = len(curves.rungs)
        self._by_rounds = resource == "rounds"
        if not self._by_rounds:
            space[ROUNDS] = randint(1, self._top)
        self._scheduler = MOASHA(
            space,
            metrics=["robust", "sparsity"],
            do_minimize=False,
            time_attr="resource",
            max_t=self._top if self._by_rounds else curves.epochs(self._top),
            grace_period=grace,
            reduction_factor=factor,
            brackets=brackets,
            random_seed=seed,
        )
        self._issued = 0

    def next(self) -> Work | None:
        from syne_tune.backend.trial_status import Trial

        suggestion = self._scheduler.suggest()
        params = {ROUNDS: self._top, **suggestion.config}
        trial = Trial(trial_id=self._issued, config=params, creation_time=None)
        self._issued += 1
        self._scheduler.on_trial_add(trial)
        return self._ladder(trial, params) if self._by_rounds else self._epochs(trial, params)

    def _ladder(self, trial: Any, params: Params) -> Work:
        chain = self.curves.chain(params)
        yield self.curves.dense_epochs
        for number in range(1, self._top + 1):
            yield self.curves.round_epochs
            values = chain[number][-1].values
            stop = self._stops(trial, number, values, number == self._top)
            self.ledger.measured(values, last=stop or number == self._top)
            if stop:
                return

    def _epochs(self, trial: Any, params: Params) -> Work:
        chain = self.curves.chain(params)
        target = chain[params[ROUNDS]][-1].sparsity
        trained = 0
        for number in range(params[ROUNDS] + 1):
            for index, epoch in enumerate(chain[number]):
                yield 1
                trained += 1
                last = number == params[ROUNDS] and index == len(chain[number]) - 1
                if number and index == len(chain[number]) - 1:
                    self.ledger.measured(epoch.values, last=last)
                if self._stops(trial, trained, [epoch.robust, target], last):
                    return

    def _stops(self, trial: Any, resource: int, values: list[float], last: bool) -> bool:
        """Report a result, as Syne Tune's tuner does; say whether the trial is to stop."""
        result = {"robust": values[0], "sparsity": values[1], "resource": resource}
        decision = self._scheduler.on_trial_result(trial, result)
        if decision != "CONTINUE":
            self._scheduler.on_trial_remove(trial)
        elif last:
            self._scheduler.on_trial_complete(trial, result)
        return bool(decision != "CONTINUE")
