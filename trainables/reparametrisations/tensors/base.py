"""Latents: trained tensors that a network's weights are made of."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.models.graph.folding import Twin
from trainables.store.state import State, Tensors


class Latent:
    """What is trained beside a network's own parameters, and the effective weights that follow from both.

    `extras` are trained, by name; `kept` are tensors that change otherwise and are part of a checkpoint; `frozen` names
    parameters of the network that are not trained. Weight decay leaves those extras alone that `undecayed` names.
    The network's own parameters never hold effective weights: those are a differentiable function, `weights`.
    """

    undecayed: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.extras: dict[str, nn.Parameter] = {}
        self.kept: Tensors = {}
        self.frozen: frozenset[str] = frozenset()
        self.in_training = False
        self.in_attack: Literal["fresh", "held", "off"] = "off"

    def weights(
        self, params: Mapping[str, Tensor], extras: Mapping[str, Tensor], draws: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Return the effective weights that differ from the parameters of their names, differentiable.

        `params` are those of the network, pruned weights 0. A random latent draws from `draws`; without it, it
        returns the weights that it is random around.
        """
        raise NotImplementedError

    def begin(self, epoch: int) -> None:
        """Prepare the epoch after `epoch` completed ones."""

    def penalised(self, weights: Mapping[str, Tensor], extras: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return what regularisers see of the network's prunable weights, differentiable: by default these."""
        return weights

    def penalty(self) -> Tensor | None:
        """Return what is added to the loss, if anything is."""
        return None

    def fold(self, state: State, extras: Mapping[str, Tensor]) -> State:
        """Return the state that the training hands on; `state` has the network's own parameters."""
        effective = self.weights(state.params, extras, None)
        return replace(state, params={**state.params, **{n: t.detach() for n, t in effective.items()}}).masked()


class Effective:
    """A network with the effective weights of a latent: to train through, and to attack.

    `attacked` is a network for the attack that shares all tensors with `model` but those that the latent makes;
    `write` gives them their values.
    """

    def __init__(self, model: nn.Module, latent: Latent) -> None:
        self._model, self._latent = model, latent
        self._params = dict(model.named_parameters())
        with torch.no_grad():
            made = latent.weights(self._params, latent.extras, None)
        tensors = {**self._params, **dict(model.named_buffers())}
        shared = {id(t): t for name, t in tensors.items() if name not in made}
        self.attacked = copy.deepcopy(model, shared)
        self._written = {name: p for name, p in self.attacked.named_parameters() if name in made}

    def forward(self, x: Tensor, draws: torch.Generator) -> Tensor:
        """Return the logits, differentiable in parameters and extras."""
        latent = self._latent
        weights = latent.weights(self._params, latent.extras, draws if latent.in_training else None)
        logits: Tensor = functional_call(self._model, weights, (x,))
        return logits

    @torch.no_grad()
    def write(self, draws: torch.Generator) -> None:
        """Give the attacked network its current effective weights."""
        latent = self._latent
        made = latent.weights(self._params, latent.extras, None if latent.in_attack == "off" else draws)
        for name, p in self._written.items():
            p.copy_(made[name])

    def adversary(self, twin: Twin, draws: torch.Generator) -> Twin | Fresh:
        """Return the attacked network's twin, renewed; where noise is fresh in every pass, so is what is returned."""
        self.write(draws)
        twin.refresh()
        return Fresh(self, twin, draws) if self._latent.in_attack == "fresh" else twin


class Fresh:
    """A twin of the attacked network with new draws in every pass."""

    def __init__(self, effective: Effective, twin: Twin, draws: torch.Generator) -> None:
        self._effective, self._twin, self._draws = effective, twin, draws

    def __call__(self, x: Tensor) -> Tensor:
        self._renew()
        return self._twin(x)

    def input_gradient(self, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what `trainables.attacks.pgd.input_gradient` says."""
        self._renew()
        return self._twin.input_gradient(x, slope)

    def _renew(self) -> None:
        self._effective.write(self._draws)
        self._twin.refresh()
