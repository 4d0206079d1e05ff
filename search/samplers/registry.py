"""The samplers that a study may name. A new one is a module with a `Sampler`, and a line here."""

from __future__ import annotations

from search.samplers.base import Sampler
from search.samplers.ehvi.sampler import Ehvi
from search.samplers.grid import Grid
from search.samplers.optuna import Gp, Nsga2, Nsga3, RandomSearch, Tpe
from search.samplers.sobol import Qmc
from trainables.core.registry import Registry

SAMPLERS: Registry[Sampler] = Registry(
    "sampler",
    Sampler,
    {
        "tpe": Tpe,
        "nsga2": Nsga2,
        "nsga3": Nsga3,
        "gp": Gp,
        "ehvi": Ehvi,
        "qmc": Qmc,
        "random": RandomSearch,
        "grid": Grid,
    },
)
