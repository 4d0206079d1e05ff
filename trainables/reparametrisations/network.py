"""A network with reparametrised weights, as the training and the attack see it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.models.graph.folding import FrozenAttackModel
from trainables.reparametrisations.base import EffectiveWeights
from trainables.store.state import duplicate, named_buffers


class ReparametrisedNetwork:
    """A network with effective weights: to train through, and to attack.

    `attacked` is a network for the attack that shares all tensors with `model` except the effective weights;
    `write` updates those.
    """

    def __init__(self, model: nn.Module, weights: EffectiveWeights) -> None:
        self._model, self._weights = model, weights
        self._params = dict(model.named_parameters())
        with torch.no_grad():
            made = weights.weights(self._params, weights.extras, None)
        tensors = {**self._params, **dict(named_buffers(model))}
        shared = {id(t): t for name, t in tensors.items() if name not in made}
        self.attacked = duplicate(model, shared)
        self._written = {name: p for name, p in self.attacked.named_parameters() if name in made}

    def forward(self, x: Tensor, draws: torch.Generator) -> Tensor:
        """Return the logits, differentiable in parameters and extras.

        Shapes: x (N, C, H, W) in [0, 1] to (N, classes).
        """
        weights = self._weights
        made = weights.weights(self._params, weights.extras, draws if weights.in_training else None)
        logits: Tensor = functional_call(self._model, made, (x,))
        return logits

    @torch.no_grad()
    def write(self, draws: torch.Generator) -> None:
        """Give the attacked network its current effective weights."""
        weights = self._weights
        made = weights.weights(self._params, weights.extras, None if weights.in_attack == "off" else draws)
        for name, p in self._written.items():
            p.copy_(made[name])

    def adversary(self, frozen: FrozenAttackModel, draws: torch.Generator) -> FrozenAttackModel | Fresh:
        """Return the refreshed frozen attack model, with new draws in every pass where the weights want them fresh."""
        self.write(draws)
        frozen.refresh()
        return Fresh(self, frozen, draws) if self._weights.in_attack == "fresh" else frozen


class Fresh:
    """A frozen attack model with new draws in every pass."""

    def __init__(self, effective: ReparametrisedNetwork, frozen: FrozenAttackModel, draws: torch.Generator) -> None:
        self._effective, self._frozen, self._draws = effective, frozen, draws

    def __call__(self, x: Tensor) -> Tensor:
        self._renew()
        return self._frozen(x)

    def input_gradient(self, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what `trainables.attacks.gradients.input_gradient` says."""
        self._renew()
        return self._frozen.input_gradient(x, slope)

    def _renew(self) -> None:
        self._effective.write(self._draws)
        self._frozen.refresh()
