"""What is trained in place of the weights: the weights themselves, or tensors that they are made of."""

from __future__ import annotations

from trainables.core.registry import Registry
from trainables.reparametrisations.admm import Admm
from trainables.reparametrisations.base import Plain, Weights
from trainables.reparametrisations.learned import Rated, Scores
from trainables.reparametrisations.noise import Noise
from trainables.reparametrisations.twin import Twin

WEIGHTS: Registry[Weights] = Registry(
    "weights",
    {
        "plain": Plain,
        "noise": Noise,
        "scores": Scores,
        "rated": Rated,
        "twin": Twin,
        "admm": Admm,
    },
)
