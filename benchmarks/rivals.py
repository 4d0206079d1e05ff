"""The rivals, each with its own real code: Optuna, Ray Tune's OptunaSearch, BoTorch and Syne Tune's MOASHA.

As they ship, they share no training, so every trial trains from its initialisation. The measurements at the end of each
round count for their front anyway. With `shared`, a training that has ended is not repeated, and the rounds of a trial
are told one by one, as trials of their own.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from curves import Curves, dense_paths
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from simulator import Ledger, Work

from search.objectives import pareto
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


class _Rival:
    """A method whose trials run from the start to their last round.

    `suggest` returns a token, what the method chose, and the values that this means.
    """

    def __init__(self, curves: Curves, ledger: Ledger, *, shared: bool = False) -> None:
        self.curves = curves
        self.ledger = ledger
        self._shared = shared
        self._trained: set[tuple[Any, ...]] = set()
        self._dense = dense_paths(curves.spec)

    def next(self) -> Work | None:
        token, params = self.suggest()
        return self.work(token, params)

    def work(self, token: Any, chosen: Params) -> Work:
        """Train the chain, report every round, and tell the last."""
        params = decoded(self.curves, chosen)
        chain = self.curves.chain(params)
        dense = tuple(str(params[path]) for path in self._dense)
        whole = tuple(str(params[path]) for path in self.curves.choices)
        yield from self._train(dense, self.curves.dense_epochs)
        values: list[list[float]] = []
        for number in range(1, params[ROUNDS] + 1):
            yield from self._train((*whole, number), self.curves.round_epochs)
            values.append(chain[number][-1].values)
            last = number == params[ROUNDS]
            self.ledger.measured(values[-1], last=last)
            if self._shared and not last:
                self.learn({**chosen, ROUNDS: number}, values[-1])
        self.tell(token, values)

    def _train(self, key: tuple[Any, ...], epochs: int) -> Work:
        if not (self._shared and key in self._trained):
            yield epochs
            self._trained.add(key)

    def suggest(self) -> tuple[Any, Params]:
        raise NotImplementedError

    def tell(self, token: Any, values: list[list[float]]) -> None:
        """Take in what a trial measured, round by round."""
        raise NotImplementedError

    def learn(self, chosen: Params, values: list[float]) -> None:
        """Take in what a round before the last measured, as a trial of its own."""
        raise NotImplementedError


SHORT = 2
"""Trials before a model is asked where the startup is as short as ours."""


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


class Optuna(_Rival):
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

    def __init__(self, curves: Curves, ledger: Ledger, sampler: str, seed: int) -> None:
        super().__init__(curves, ledger, sampler, seed, full=True)

    def tell(self, token: Any, values: list[list[float]]) -> None:
        self._study.tell(token, pareto.hypervolume(values))


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

    def tell(self, token: Any, values: list[list[float]]) -> None:
        result = dict(zip(("robust", "sparsity"), values[-1], strict=True))
        self._search.on_trial_result(token, result)
        self._search.on_trial_complete(token, result)


class BoTorch(_Rival):
    """BoTorch's qLogNEHVI on one Gaussian process per objective, with the running trials as pending points.

    With `known`, the sparsity is a deterministic model of the number of rounds, as BoTorch offers for objectives that
    need no measurement. Positions and numbers are scaled to [0, 1], other choices have a column each; the best of a
    random sample of the grid is chosen, as a grid's points are all there is.
    """

    CANDIDATES = 512

    def __init__(
        self, curves: Curves, ledger: Ledger, seed: int, *, known: bool, startup: int = 10, shared: bool = False
    ) -> None:
        super().__init__(curves, ledger, shared=shared)
        self._known, self._startup, self._seed = known, startup, seed
        self._space = distributions(curves)
        self._random = optuna.create_study(directions=["maximize", "maximize"], sampler=RandomSampler(seed=seed))
        self._generator = np.random.default_rng(seed)
        self._told: list[tuple[Params, list[float]]] = []
        self._running: dict[int, Params] = {}
        self._issued = 0

    def suggest(self) -> tuple[Any, Params]:
        chosen = self._chosen() if len(self._told) >= self._startup else self._drawn()
        self._issued += 1
        self._running[self._issued] = chosen
        return self._issued, chosen

    def tell(self, token: Any, values: list[list[float]]) -> None:
        self._told.append((self._running.pop(token), values[-1]))

    def learn(self, chosen: Params, values: list[float]) -> None:
        self._told.append((chosen, values))

    def _drawn(self) -> Params:
        return dict(self._random.ask(self._space).params)

    def _candidates(self) -> list[Params]:
        drawn = []
        seen = [params for params, _ in self._told] + list(self._running.values())
        for _ in range(self.CANDIDATES):
            params = {
                path: one.choices[self._generator.integers(len(one.choices))]
                if isinstance(one, CategoricalDistribution)
                else int(self._generator.integers(one.low, one.high + 1))
                for path, one in self._space.items()
            }
            if params not in seen:
                drawn.append(params)
        return drawn or [self._drawn()]

    def _rows(self, trials: list[Params]) -> Any:
        import torch

        rows = []
        for params in trials:
            row: list[float] = []
            for path, one in self._space.items():
                if isinstance(one, CategoricalDistribution):
                    row += [float(params[path] == choice) for choice in one.choices]
                else:
                    row.append((params[path] - one.low) / max(1, one.high - one.low))
            rows.append(row)
        return torch.tensor(rows, dtype=torch.double)

    def _chosen(self) -> Params:
        import torch
        from botorch import fit_gpytorch_mll
        from botorch.acquisition.multi_objective import logei
        from botorch.models import ModelListGP, SingleTaskGP
        from botorch.models.deterministic import GenericDeterministicModel
        from botorch.models.model import ModelList
        from botorch.models.transforms import Standardize
        from gpytorch.mlls import ExactMarginalLogLikelihood

        torch.manual_seed(self._seed * 100_003 + self._issued)
        x = self._rows([params for params, _ in self._told])
        y = torch.tensor([values for _, values in self._told], dtype=torch.double)
        models: list[Any] = []
        for column in range(1 if self._known else 2):
            model = SingleTaskGP(x, y[:, column : column + 1], outcome_transform=Standardize(1))
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            models.append(model)
        if self._known:
            levels, top = torch.tensor(self.curves.rungs, dtype=torch.double), len(self.curves.rungs) - 1
            models.append(GenericDeterministicModel(lambda rows: levels[(rows[..., :1] * top).round().long()]))
        acquisition = logei.qLogNoisyExpectedHypervolumeImprovement(
            model=ModelList(*models) if self._known else ModelListGP(*models),
            ref_point=[0.0, 0.0],
            X_baseline=x,
            prune_baseline=True,
            X_pending=self._rows(list(self._running.values())) if self._running else None,
        )
        candidates = self._candidates()
        with torch.no_grad():
            values = torch.cat([acquisition(part) for part in self._rows(candidates)[:, None].split(64)])
        return candidates[int(values.argmax())]


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
            # Ordered choices by their position, others as text: it wants choices of one type.
            path: randint(0, len(options) - 1) if ordered(options) else choice([str(value) for value in options])
            for path, options in curves.choices.items()
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
        chain = self.curves.chain(self._values(params))
        yield self.curves.dense_epochs
        for number in range(1, self._top + 1):
            yield self.curves.round_epochs
            values = chain[number][-1].values
            stop = self._stops(trial, number, values, number == self._top)
            self.ledger.measured(values, last=stop or number == self._top)
            if stop:
                return

    def _values(self, params: Params) -> Params:
        texts = {path: {str(option): option for option in options} for path, options in self.curves.choices.items()}
        return {
            path: texts[path][value] if isinstance(value, str) else value
            for path, value in decoded(self.curves, params).items()
        }

    def _epochs(self, trial: Any, params: Params) -> Work:
        chain = self.curves.chain(self._values(params))
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
