"""Optuna, by itself and behind Ray Tune."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from curves import Curves
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from simulator import Ledger

from rivals.base import ROUNDS, SHORT, Params, Rival, distributions
from search.objectives import pareto


def multivariate(seed: int, startup: int = 10) -> BaseSampler:
    """Optuna's TPE with joint densities, aware of running trials."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed, n_startup_trials=startup)


def gp(seed: int, startup: int = 10) -> BaseSampler:
    """Optuna's Gaussian processes."""
    return GPSampler(seed=seed, n_startup_trials=startup)


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: RandomSampler(seed=seed),
    "tpe": multivariate,
    "tpe-short": lambda seed: multivariate(seed, SHORT),
    "nsga2": lambda seed: NSGAIISampler(population_size=20, seed=seed),
    "gp": gp,
    "gp-short": lambda seed: gp(seed, SHORT),
}


class Optuna(Rival):
    """Optuna alone, by ask and tell. With `full`, every trial runs all rounds."""

    def __init__(
        self, curves: Curves, ledger: Ledger, sampler: str, seed: int, *, full: bool = False, shared: bool = False
    ) -> None:
        super().__init__(curves, ledger, shared=shared)
        self._fixed = {ROUNDS: len(curves.rungs)} if full else {}
        self._space = distributions(curves, full=full)
        self._study = optuna.create_study(directions=self.directions, sampler=SAMPLERS[sampler](seed))

    directions = ("maximize", "maximize")

    def suggest(self) -> tuple[Any, Params]:
        trial = self._study.ask(self._space)
        return trial, {**trial.params, **self._fixed}

    def tell(self, token: Any, values: list[list[float]]) -> None:
        self._study.tell(token, values[-1])

    def learn(self, chosen: Params, values: list[float]) -> None:
        self._study.add_trial(optuna.create_trial(params=chosen, distributions=self._space, values=values))


class Ladders(Optuna):
    """Optuna with one objective: every trial runs all rounds and is worth the hypervolume of what they measured."""

    directions = ("maximize",)

    def __init__(self, curves: Curves, ledger: Ledger, sampler: str, seed: int, *, shared: bool = False) -> None:
        super().__init__(curves, ledger, sampler, seed, full=True, shared=shared)

    def tell(self, token: Any, values: list[list[float]]) -> None:
        self._study.tell(token, pareto.hypervolume(values))

    def learn(self, chosen: Params, values: list[float]) -> None:
        """A round before the last is no ladder."""


class TuneOptuna(Rival):
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

    def tell(self, token: Any, values: list[list[float]]) -> None:
        result = dict(zip(("robust", "sparsity"), values[-1], strict=True))
        self._search.on_trial_result(token, result)
        self._search.on_trial_complete(token, result)
