"""Weights under noise of trained strength."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainables.models import noise
from trainables.reparametrisations.noise import Noise
from trainables.reparametrisations.tensors.base import Latent
from trainables.store.state import State


class NoiseLatent(Latent):
    """Noise coefficients; those that the state brings along go on being trained."""

    def __init__(self, spec: Noise, state: State) -> None:
        super().__init__()
        self._settings = {"masked": spec.mask, "nonzero": spec.sigma_over == "nonzero"}
        self._names, self._masks = state.prunable(), state.masks
        self.in_training, self.in_attack = spec.in_training, spec.in_attack
        before = noise.Noise.of(state)
        for name in self._names:
            shape = _shape(state.params[name], spec.coefficients)
            alpha = torch.full(shape, spec.init, device=state.params[name].device)
            if before is not None and before.alpha[name].shape == shape:
                alpha.copy_(before.alpha[name])
            self.extras[noise.PREFIX + name] = nn.Parameter(alpha)
        self.undecayed = frozenset(self.extras)

    def weights(
        self, params: Mapping[str, Tensor], extras: Mapping[str, Tensor], draws: torch.Generator | None
    ) -> dict[str, Tensor]:
        if draws is None:
            return {name: params[name] for name in self._names}
        return self._noise(extras).on(params, self._masks, draws)

    def fold(self, state: State, extras: Mapping[str, Tensor]) -> State:
        return replace(state, latents=self._noise({name: t.detach().clone() for name, t in extras.items()}).tensors())

    def _noise(self, extras: Mapping[str, Tensor]) -> noise.Noise:
        return noise.Noise({name.removeprefix(noise.PREFIX): t for name, t in extras.items()}, **self._settings)


def _shape(weight: Tensor, coefficients: str) -> torch.Size:
    if coefficients == "layer":
        return torch.Size([1])
    return weight.shape if coefficients == "element" else torch.Size([len(weight), *[1] * (weight.dim() - 1)])
