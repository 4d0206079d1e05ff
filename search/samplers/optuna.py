"""Samplers: specs that build Optuna's samplers, one for every trial, seeded by the trial's number."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from search.launch.cost import Expect
from trainables.core.registry import Registry
from trainables.core.rng import derive
from trainables.core.spec import Spec

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from search.study.spec import StudySpec


@dataclass(frozen=True)
class SamplerContext:
    """What a sampler is built for: trial `number` of the study `spec`, whose seed is `seed`.

    `expect` says of parameters what a trial with them would measure, and how many epochs it would have to train.
    """

    seed: int
    number: int
    spec: StudySpec
    expect: Expect


class Sampler(Spec):
    """Base of every sampler. It is built anew for each trial, so its state is the study's trials and nothing else.

    `most` bounds how many points samplers are shown that grow slow with their number: of twice as many the better half
    stays, the front first.
    """

    kind: str
    most: ClassVar[int | None] = None

    def build(self, context: SamplerContext) -> BaseSampler:
        """Return the sampler of one trial."""
        raise NotImplementedError


def trial_seed(context: SamplerContext) -> int:
    """Return the 32-bit seed of the sampler of one trial."""
    return derive(context.seed, "sampler", context.number) % 2**32


class Tpe(Sampler):
    """Tree-structured Parzen estimator, multivariate, grouped by condition, aware of running trials.

    The first `n_startup_trials` are random. Source: Bergstra et al. 2011; Ozaki et al. 2022,
    doi:10.1613/jair.1.13188 (several objectives).
    """

    kind: Literal["tpe"] = "tpe"
    most: ClassVar[int | None] = 1000
    n_startup_trials: int = Field(default=10, ge=1)
    n_ei_candidates: int = Field(default=24, ge=1)

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


class Nsga2(Sampler):
    """The genetic algorithm NSGA-II. Source: Deb et al. 2002, doi:10.1109/4235.996017."""

    kind: Literal["nsga2"] = "nsga2"
    population_size: int = Field(default=20, ge=2)

    def build(self, context: SamplerContext) -> BaseSampler:
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(population_size=self.population_size, seed=trial_seed(context))


class Nsga3(Sampler):
    """NSGA-III, for three objectives and more. Source: Deb & Jain 2014, doi:10.1109/TEVC.2013.2281535."""

    kind: Literal["nsga3"] = "nsga3"
    population_size: int = Field(default=20, ge=2)

    def build(self, context: SamplerContext) -> BaseSampler:
        from optuna.exceptions import ExperimentalWarning
        from optuna.samplers import NSGAIIISampler

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return NSGAIIISampler(population_size=self.population_size, seed=trial_seed(context))


class Gp(Sampler):
    """Gaussian processes with expected hypervolume improvement.

    For short searches: one suggestion takes seconds at some hundred points, and much longer
    where OMP_NUM_THREADS is not 1 in the driver. Conditional parameters are drawn at random.
    """

    kind: Literal["gp"] = "gp"
    most: ClassVar[int | None] = 200
    n_startup_trials: int = Field(default=10, ge=1)

    def build(self, context: SamplerContext) -> BaseSampler:
        from optuna.samplers import GPSampler

        return GPSampler(
            n_startup_trials=self.n_startup_trials, warn_independent_sampling=False, seed=trial_seed(context)
        )


class Ehvi(Sampler):
    """Expected hypervolume improvement by the root of the epochs to train, given what is known before a trial trains.

    The first `n_startup_trials` are those of `qmc`. Sources: Emmerich, Deutz & Klinkenberg 2011,
    doi:10.1109/CEC.2011.5949880 (the criterion); Snoek, Larochelle & Adams 2012, arXiv:1206.2944 §3.2 (per cost);
    Lee, Perrone, Archambeau & Seeger 2020, arXiv:2003.10870 (less than the whole cost; our exponent is measured).
    """

    kind: Literal["ehvi"] = "ehvi"
    most: ClassVar[int | None] = 500
    n_startup_trials: int = Field(default=2, ge=1)

    def build(self, context: SamplerContext) -> BaseSampler:
        from search.samplers.own import EhviSampler

        return EhviSampler(context, self.n_startup_trials)


class Qmc(Sampler):
    """A scrambled Sobol sequence: even cover of the space, blind to results. Trial n takes its n-th point."""

    kind: Literal["qmc"] = "qmc"

    def build(self, context: SamplerContext) -> BaseSampler:
        from search.samplers.own import SobolSampler

        return SobolSampler(derive(context.seed, "sobol") % 2**32, context.number, context.spec.space)


class RandomSearch(Sampler):
    """Independent draws."""

    kind: Literal["random"] = "random"

    def build(self, context: SamplerContext) -> BaseSampler:
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=trial_seed(context))


SAMPLERS: Registry[Sampler] = Registry(
    "sampler", {"tpe": Tpe, "nsga2": Nsga2, "nsga3": Nsga3, "gp": Gp, "ehvi": Ehvi, "qmc": Qmc, "random": RandomSearch}
)
