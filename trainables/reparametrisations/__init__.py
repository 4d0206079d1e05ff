"""Reparametrisations: what is trained in place of the weights."""

from __future__ import annotations

from trainables.core.registry import Registry
from trainables.reparametrisations.admm import Admm
from trainables.reparametrisations.base import Plain, Reparametrisation
from trainables.reparametrisations.learned import Rated, Scores
from trainables.reparametrisations.noise import Noise
from trainables.reparametrisations.twin import Twin

REPARAMETRISATIONS: Registry[Reparametrisation] = Registry(
    "reparametrisation",
    Reparametrisation,
    {
        "plain": Plain,
        "noise": Noise,
        "scores": Scores,
        "rated": Rated,
        "twin": Twin,
        "admm": Admm,
    },
)

WEIGHTS = REPARAMETRISATIONS
"""The registry by the name that plug-ins know."""
