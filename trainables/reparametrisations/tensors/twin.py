"""Weights as products of two factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainables.reparametrisations.tensors.base import Latent
from trainables.reparametrisations.twin import Twin
from trainables.store.state import State

_FIRST, _SECOND = "twin/first/", "twin/second/"


class TwinLatent(Latent):
    """A second factor beside each weight; the network's own parameters are the first."""

    def __init__(self, spec: Twin, state: State, draws: torch.Generator) -> None:
        super().__init__()
        self._spec, self._names = spec, state.prunable()
        for name in self._names:
            weight = state.params[name]
            second = torch.ones_like(weight, requires_grad=False)
            if (before := state.latents.get(_SECOND + name)) is not None:
                second.copy_(before)
                with torch.no_grad():
                    weight.copy_(torch.where(state.masks[name], state.latents[_FIRST + name], 0.0))
            elif spec.init == "kaiming_uniform":
                bound = weight[0].numel() ** -0.5
                second.uniform_(-bound, bound, generator=draws)
            self.extras[_SECOND + name] = nn.Parameter(second)

    def weights(
        self, params: Mapping[str, Tensor], extras: Mapping[str, Tensor], draws: torch.Generator | None
    ) -> dict[str, Tensor]:
        return {name: params[name] * extras[_SECOND + name] for name in self._names}

    def penalised(self, weights: Mapping[str, Tensor], extras: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return self.weights(weights, extras, None)

    def fold(self, state: State, extras: Mapping[str, Tensor]) -> State:
        folded = super().fold(state, extras)
        if self._spec.fold:
            return folded
        first = {_FIRST + name: state.params[name] for name in self._names}
        return replace(folded, latents={**first, **{name: t.detach().clone() for name, t in extras.items()}})
