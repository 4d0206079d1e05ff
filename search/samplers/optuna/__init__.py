"""Samplers of Optuna: specs that build one for every trial, seeded by the trial's number."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from search.samplers.base import Sampler, SamplerContext, Suggestion, trial_seed
from search.space.parameters import Params

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

_STARTUP = "Trials that are drawn at random before the sampler learns from results."


class OptunaSampler(Sampler):
    """Base of the samplers that are Optuna's."""

    @abstractmethod
    def build(self, context: SamplerContext) -> BaseSampler:
        """Return Optuna's sampler for one trial."""

    def load(self) -> None:
        from search.samplers.optuna import study  # noqa: F401

    def suggest(self, context: SamplerContext) -> Suggestion:
        from search.samplers.optuna.study import optuna_study

        return optuna_study(context).ask(self.build(context), context.number)

    def enqueued(self, context: SamplerContext, params: Params) -> Suggestion:
        from search.samplers.optuna.study import optuna_study

        return optuna_study(context).ask(self.build(context), context.number, params)


class Tpe(OptunaSampler):
    """Tree-structured Parzen estimator: multivariate, grouped by condition, aware of running trials.

    Source: Bergstra et al. 2011; Ozaki et al. 2022, doi:10.1613/jair.1.13188 (several objectives).
    """

    kind: Literal["tpe"] = "tpe"
    most: ClassVar[int | None] = 1000
    n_startup_trials: int = Field(default=10, ge=1, description=_STARTUP)
    n_ei_candidates: int = Field(default=24, ge=1, description="Candidates of which the most promising is suggested.")

    def build(self, context: SamplerContext) -> BaseSampler:
        from optuna.exceptions import ExperimentalWarning
        from optuna.samplers import TPESampler

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # `group`
            return TPESampler(
                multivariate=True,
                group=True,
                constant_liar=True,
                n_startup_trials=self.n_startup_trials,
                n_ei_candidates=self.n_ei_candidates,
                seed=trial_seed(context),
            )


_POPULATION = Field(
    default=20, ge=2, description="Points in a generation, including the intermediate points of trials."
)


class Nsga2(OptunaSampler):
    """The genetic algorithm NSGA-II. Source: Deb et al. 2002, doi:10.1109/4235.996017."""

    kind: Literal["nsga2"] = "nsga2"
    population_size: int = _POPULATION

    def build(self, context: SamplerContext) -> BaseSampler:
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(population_size=self.population_size, seed=trial_seed(context))


class Nsga3(OptunaSampler):
    """NSGA-III, for three objectives and more. Source: Deb & Jain 2014, doi:10.1109/TEVC.2013.2281535."""

    kind: Literal["nsga3"] = "nsga3"
    population_size: int = _POPULATION

    def build(self, context: SamplerContext) -> BaseSampler:
        from optuna.exceptions import ExperimentalWarning
        from optuna.samplers import NSGAIIISampler

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return NSGAIIISampler(population_size=self.population_size, seed=trial_seed(context))


class Gp(OptunaSampler):
    """Gaussian processes with expected hypervolume improvement.

    For short searches: one suggestion takes seconds at some hundred points, and much longer where OMP_NUM_THREADS is
    not 1 in the driver. Conditional parameters are drawn at random.
    """

    kind: Literal["gp"] = "gp"
    most: ClassVar[int | None] = 200
    n_startup_trials: int = Field(default=10, ge=1, description=_STARTUP)

    def build(self, context: SamplerContext) -> BaseSampler:
        from optuna.samplers import GPSampler

        return GPSampler(
            n_startup_trials=self.n_startup_trials, warn_independent_sampling=False, seed=trial_seed(context)
        )


class RandomSearch(OptunaSampler):
    """Independent draws."""

    kind: Literal["random"] = "random"

    def build(self, context: SamplerContext) -> BaseSampler:
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=trial_seed(context))
