"""The tensor side of `trainables.weights`."""

from __future__ import annotations

from functools import singledispatch

from trainables.latents.base import Effective, Latent
from trainables.latents.noise import NoiseLatent
from trainables.state import State
from trainables.weights.base import Plain, Weights
from trainables.weights.noise import Noise

__all__ = ["Effective", "Latent", "latent"]


@singledispatch
def latent(spec: Weights, state: State) -> Latent | None:
    """Return what is trained beside the network's parameters, None where nothing is.

    `state` is where the training begins, on its device and in the network's memory format, pruned weights 0.
    """
    raise NotImplementedError(f"no way to train weights of kind {spec.kind}")


@latent.register
def _plain(spec: Plain, state: State) -> Latent | None:
    return None


@latent.register
def _noise(spec: Noise, state: State) -> Latent | None:
    return NoiseLatent(spec, state)
