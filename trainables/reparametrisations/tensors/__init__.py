"""The tensor side of `trainables.reparametrisations`."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import nn

from trainables.models import macs
from trainables.models.graph.channels import Wiring
from trainables.reparametrisations.admm import Admm
from trainables.reparametrisations.base import Plain, Weights
from trainables.reparametrisations.learned import Rated, Scores
from trainables.reparametrisations.noise import Noise
from trainables.reparametrisations.tensors.admm import AdmmLatent
from trainables.reparametrisations.tensors.base import Effective, Latent
from trainables.reparametrisations.tensors.filters import FiltersLatent
from trainables.reparametrisations.tensors.learned import RatedLatent, ScoresLatent
from trainables.reparametrisations.tensors.noise import NoiseLatent
from trainables.reparametrisations.tensors.twin import TwinLatent
from trainables.reparametrisations.twin import Twin
from trainables.store.state import State

__all__ = ["Effective", "Latent", "latent"]

Shape = tuple[int, int, int]


@singledispatch
def latent(spec: Weights, state: State, draws: torch.Generator, model: nn.Module, shape: Shape) -> Latent | None:
    """Return what is trained beside the network's parameters, None where nothing is.

    `state` is where the training begins, pruned weights 0; its parameters are those of the network that is trained,
    and may be given other values. What is drawn, `draws` draws. `model` is that network, to be looked at, and `shape`
    that of an image.
    """
    raise NotImplementedError(f"no way to train weights of kind {spec.kind}")


@latent.register
def _plain(spec: Plain, state: State, draws: torch.Generator, model: nn.Module, shape: Shape) -> Latent | None:
    return None


@latent.register
def _noise(spec: Noise, state: State, draws: torch.Generator, model: nn.Module, shape: Shape) -> Latent | None:
    return NoiseLatent(spec, state)


@latent.register
def _scores(spec: Scores, state: State, draws: torch.Generator, model: nn.Module, shape: Shape) -> Latent | None:
    return ScoresLatent(spec, state)


@latent.register
def _rated(spec: Rated, state: State, draws: torch.Generator, model: nn.Module, shape: Shape) -> Latent | None:
    counts = macs.count(model, shape) if spec.counts == "macs" else {}
    uses = {name: times for name, (_, times) in counts.items()}
    if spec.structure == "filter":
        return FiltersLatent(spec, state, Wiring(model, shape), uses)
    return RatedLatent(spec, state, uses)


@latent.register
def _twin(spec: Twin, state: State, draws: torch.Generator, model: nn.Module, shape: Shape) -> Latent | None:
    return TwinLatent(spec, state, draws)


@latent.register
def _admm(spec: Admm, state: State, draws: torch.Generator, model: nn.Module, shape: Shape) -> Latent | None:
    return AdmmLatent(spec, state, draws)
