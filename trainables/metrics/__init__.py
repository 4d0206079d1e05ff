"""Metrics: names of the measures of every point, and the registry of what a protocol may measure besides."""

from __future__ import annotations

from trainables.core.measures import (
    CLEAN_ACCURACY,
    KNOWN,
    MACS_EFFECTIVE,
    MEASURES,
    NONZERO,
    ROBUST_ACCURACY,
    SPARSITY,
    Direction,
    wilson,
)
from trainables.core.registry import Registry
from trainables.metrics.activations import Activations
from trainables.metrics.attacked import Attacked
from trainables.metrics.base import Metric
from trainables.metrics.dense_distance import DenseDistance
from trainables.metrics.distance import Distance
from trainables.metrics.dynamics import Dynamics
from trainables.metrics.early_stop import EarlyStop
from trainables.metrics.lipschitz import Lipschitz
from trainables.metrics.noise import Noise
from trainables.metrics.spectrum import Spectrum
from trainables.metrics.weights import Weights

__all__ = [
    "CLEAN_ACCURACY",
    "KNOWN",
    "MACS_EFFECTIVE",
    "MEASURES",
    "METRICS",
    "NONZERO",
    "ROBUST_ACCURACY",
    "SPARSITY",
    "Direction",
    "Metric",
    "wilson",
]

METRICS: Registry[Metric] = Registry(
    "metric",
    Metric,
    {
        "weights": Weights,
        "attacked": Attacked,
        "dense_distance": DenseDistance,
        "dynamics": Dynamics,
        "early_stop": EarlyStop,
        "spectrum": Spectrum,
        "noise": Noise,
        "distance": Distance,
        "lipschitz": Lipschitz,
        "activations": Activations,
    },
)
