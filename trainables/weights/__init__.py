"""What is trained in place of the weights: the weights themselves, or tensors that they are made of."""

from __future__ import annotations

from trainables.registry import Registry
from trainables.weights.admm import Admm
from trainables.weights.base import Plain, Weights
from trainables.weights.learned import Rated, Scores
from trainables.weights.noise import Noise
from trainables.weights.twin import Twin

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
