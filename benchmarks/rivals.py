"""The rivals, each with its own real code: Optuna, Ray Tune's OptunaSearch, BoTorch, Ax and Syne Tune's MOASHA.

As they ship, they share no training, so every trial trains from its initialisation. The measurements at the end of each
round count for their front anyway. With `shared`, a training that has ended is not repeated, and the rounds of a trial
are told one by one, as trials of their own, to those that can be told.
"""

from __future__ import annotations

import math
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


class Trainings:
    """The trainings of a search; with `shared`, one that has ended is not repeated."""

    def __init__(self, curves: Curves, *, shared: bool) -> None:
        self.curves, self._shared = curves, shared
        self._dense = dense_paths(curves.spec)
        self._ended: set[tuple[Any, ...]] = set()

    def train(self, params: Params, number: int) -> Work:
        """Train a round of a chain; 0 is the dense network."""
        if epochs := self.missing(params, number):
            yield epochs
            self._ended.add(self._key(params, number))

    def missing(self, params: Params, number: int) -> int:
        """Return the epochs to train for a round, of which nothing is left where it is shared."""
        if self._shared and self._key(params, number) in self._ended:
            return 0
        return self.curves.round_epochs if number else self.curves.dense_epochs

    def _key(self, params: Params, number: int) -> tuple[Any, ...]:
        return (number, *(str(params[path]) for path in (self.curves.choices if number else self._dense)))


class _Rival:
    """A method whose trials run from the start to their last round.

    `suggest` returns a token, what the method chose, and the values that this means.
    """

    def __init__(self, curves: Curves, ledger: Ledger, *, shared: bool = False) -> None:
        self.curves = curves
        self.ledger = ledger
        self._shared = shared
        self.trainings = Trainings(curves, shared=shared)

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

    def __init__(self, curves: Curves, ledger: Ledger, sampler: str, seed: int, *, shared: bool = False) -> None:
        super().__init__(curves, ledger, sampler, seed, full=True, shared=shared)

    def tell(self, token: Any, values: list[list[float]]) -> None:
        self._study.tell(token, pareto.hypervolume(values))

    def learn(self, chosen: Params, values: list[float]) -> None:
        """A round before the last is no ladder."""


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
    need no measurement. With `weighted`, a gain is divided by the root of the epochs that are to be trained, as ours.
    Positions and numbers are scaled to [0, 1], other choices have a column each; BoTorch's own local search on the grid
    finds the best of all that was not tried.
    """

    RAW, RESTARTS = 512, 10

    def __init__(
        self,
        curves: Curves,
        ledger: Ledger,
        seed: int,
        *,
        known: bool,
        startup: int = 10,
        shared: bool = False,
        weighted: bool = False,
    ) -> None:
        super().__init__(curves, ledger, shared=shared)
        self._known, self._startup, self._seed, self._weighted = known, startup, seed, weighted
        self._space = distributions(curves)
        self._options = {
            path: list(one.choices) if isinstance(one, CategoricalDistribution) else list(range(one.low, one.high + 1))
            for path, one in self._space.items()
        }
        self._random = optuna.create_study(directions=["maximize", "maximize"], sampler=RandomSampler(seed=seed))
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

    def _positions(self, trials: list[Params]) -> Any:
        import torch

        rows = [[options.index(params[path]) for path, options in self._options.items()] for params in trials]
        return torch.tensor(rows, dtype=torch.double).reshape(len(rows), len(self._options))

    def _features(self, positions: Any) -> Any:
        """Return what the models see of positions (..., parameters)."""
        import torch

        columns = []
        for at, (path, options) in enumerate(self._options.items()):
            column = positions[..., at]
            if isinstance(self._space[path], CategoricalDistribution):
                columns.append(torch.nn.functional.one_hot(column.long(), len(options)).double())
            else:
                columns.append(column[..., None] / max(1, len(options) - 1))
        return torch.cat(columns, dim=-1)

    def _epochs(self, positions: Any) -> Any:
        """Return the epochs that trials (n, parameters) would have to train."""
        import torch

        found = []
        for row in positions.long().tolist():
            options = zip(self._options.items(), row, strict=True)
            chosen = {path: values[at] for (path, values), at in options}
            params = decoded(self.curves, chosen)
            found.append(sum(self.trainings.missing(params, number) for number in range(params[ROUNDS] + 1)))
        return torch.tensor(found, dtype=torch.double)

    def _chosen(self) -> Params:
        import torch
        from botorch.optim.optimize import optimize_acqf_discrete_local_search

        torch.manual_seed(self._seed * 100_003 + self._issued)
        acquisition = self._acquisition()

        def worth(positions: Any) -> Any:
            """Return the logarithm of the gain of trials (n, 1, parameters)."""
            gain = acquisition(self._features(positions))
            # A measurement costs about as much as an epoch.
            return gain - 0.5 * torch.log1p(self._epochs(positions[:, 0])) if self._weighted else gain

        seen = torch.unique(self._positions([*(p for p, _ in self._told), *self._running.values()]), dim=0)
        left = math.prod(map(len, self._options.values())) - len(seen)
        if not left:
            return self._drawn()
        with torch.no_grad():
            found, _ = optimize_acqf_discrete_local_search(
                worth,
                discrete_choices=[torch.arange(len(options)).double() for options in self._options.values()],
                q=1,
                num_restarts=min(self.RESTARTS, left),
                raw_samples=self.RAW,
                X_avoid=seen,
                return_acq_values=False,
            )
        at = found[0].long().tolist()
        return {path: options[index] for (path, options), index in zip(self._options.items(), at, strict=True)}

    def _acquisition(self) -> Any:
        import torch
        from botorch import fit_gpytorch_mll
        from botorch.acquisition.multi_objective import logei
        from botorch.models import ModelListGP, SingleTaskGP
        from botorch.models.deterministic import GenericDeterministicModel
        from botorch.models.model import ModelList
        from botorch.models.transforms import Standardize
        from gpytorch.mlls import ExactMarginalLogLikelihood

        x = self._features(self._positions([params for params, _ in self._told]))
        y = torch.tensor([values for _, values in self._told], dtype=torch.double)
        models: list[Any] = []
        for column in range(1 if self._known else 2):
            model = SingleTaskGP(x, y[:, column : column + 1], outcome_transform=Standardize(1))
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            models.append(model)
        if self._known:
            levels, top = torch.tensor(self.curves.rungs, dtype=torch.double), len(self.curves.rungs) - 1
            models.append(GenericDeterministicModel(lambda rows: levels[(rows[..., :1] * top).round().long()]))
        running = self._features(self._positions(list(self._running.values())))
        return logei.qLogNoisyExpectedHypervolumeImprovement(
            model=ModelList(*models) if self._known else ModelListGP(*models),
            ref_point=[0.0, 0.0],
            X_baseline=x,
            prune_baseline=True,
            X_pending=running if self._running else None,
        )


class Ax(_Rival):
    """Ax's own strategy for two objectives, told that sparsity has no error; `startup` None is its default."""

    def __init__(
        self, curves: Curves, ledger: Ledger, seed: int, *, startup: int | None = None, shared: bool = False
    ) -> None:
        import logging

        from ax.api.client import Client
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
        from ax.utils.common.logger import set_ax_logger_levels

        set_ax_logger_levels(logging.ERROR)
        super().__init__(curves, ledger, shared=shared)
        self._space = distributions(curves)
        # Names with dots are no names to it.
        self._names = {path: f"p{number}" for number, path in enumerate(self._space)}
        parameters: list[Any] = []
        for path, one in self._space.items():
            name = self._names[path]
            if isinstance(one, CategoricalDistribution):
                texts = [str(choice) for choice in one.choices]
                parameters.append(ChoiceParameterConfig(name, texts, "str", is_ordered=False))
            else:
                parameters.append(RangeParameterConfig(name, (one.low, one.high), "int"))
        self._client = Client(random_seed=seed)
        self._client.configure_experiment(parameters)
        # Bounds on objectives are its reference point.
        self._client.configure_optimization("robust, sparsity", outcome_constraints=["robust >= 0", "sparsity >= 0"])
        self._client.configure_generation_strategy(
            method="fast",
            initialization_budget=startup,
            initialization_random_seed=seed,
            allow_exceeding_initialization_budget=True,  # Or workers would have nothing to do.
        )

    def suggest(self) -> tuple[Any, Params] | None:
        for token, found in self._client.get_next_trials(max_trials=1).items():
            return token, {path: self._value(one, found[self._names[path]]) for path, one in self._space.items()}
        return None

    def tell(self, token: Any, values: list[list[float]]) -> None:
        robust, sparsity = values[-1]
        self._client.complete_trial(token, raw_data={"robust": robust, "sparsity": (sparsity, 0.0)})

    def learn(self, chosen: Params, values: list[float]) -> None:
        texts = {path: isinstance(one, CategoricalDistribution) for path, one in self._space.items()}
        told = {self._names[path]: str(value) if texts[path] else value for path, value in chosen.items()}
        self.tell(self._client.attach_trial(told), [values])

    def _value(self, one: BaseDistribution, value: Any) -> Any:
        if isinstance(one, CategoricalDistribution):
            return next(choice for choice in one.choices if str(choice) == value)
        return int(value)


class Moasha:
    """Syne Tune's MOASHA, which draws at random and stops what ranks low.

    `resource` is what its rungs are in. `rounds`: every trial climbs the whole ladder and reports each round, so that
    a rung compares networks of one sparsity. `epochs`: the number of rounds is drawn as well, and every
    epoch reports the sparsity that the trial will end with. Only rounds can be `shared`.
    """

    def __init__(
        self,
        curves: Curves,
        ledger: Ledger,
        seed: int,
        resource: str,
        grace: int,
        factor: float,
        *,
        shared: bool = False,
    ) -> None:
        from syne_tune.config_space import choice, randint
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

        # Syne Tune draws from the global generators.
        random.seed(seed)
        np.random.seed(seed)
        self.curves, self.ledger = curves, ledger
        self.trainings = Trainings(curves, shared=shared)
        space: dict[str, Any] = {
            # Ordered choices by their position, others as text: it wants choices of one type.
            path: randint(0, len(options) - 1) if ordered(options) else choice([str(value) for value in options])
            for path, options in curves.choices.items()
        }
        self._top = len(curves.rungs)
        self._by_rounds = resource == "rounds"
        if not self._by_rounds:
            space[ROUNDS] = randint(1, self._top)
        most = self._top if self._by_rounds else curves.epochs(self._top)
        self._scheduler = MOASHA(
            space,
            metrics=["robust", "sparsity"],
            do_minimize=False,
            time_attr="resource",
            max_t=most,
            grace_period=min(grace, most),
            reduction_factor=factor,
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
        chosen = self._values(params)
        chain = self.curves.chain(chosen)
        yield from self.trainings.train(chosen, 0)
        for number in range(1, self._top + 1):
            yield from self.trainings.train(chosen, number)
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
