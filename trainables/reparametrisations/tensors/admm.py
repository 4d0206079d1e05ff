"""Weights that are pulled towards a budget: their projection, and the scaled multipliers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from trainables.pruning.cut import prune
from trainables.reparametrisations.admm import Admm
from trainables.reparametrisations.tensors.base import Latent
from trainables.store.state import State, Tensors

TARGET, MULTIPLIER = "admm/z/", "admm/u/"


class AdmmLatent(Latent):
    """Z and U of the layers that are pruned, which are kept; the weights are the network's own parameters."""

    def __init__(self, spec: Admm, state: State, draws: torch.Generator) -> None:
        """Begin at the weights of `state`, which are the network's parameters and change under training."""
        super().__init__()
        self._spec, self._state, self._draws = spec, state, draws
        self._rho = spec.rho
        spared = spec.pruning.spared(state.prunable())
        self._pulled = {name: state.params[name] for name in state.prunable() if name not in spared}
        for name, weight in self._pulled.items():
            for prefix in (TARGET, MULTIPLIER):
                self.kept[prefix + name] = torch.zeros_like(weight)
        self._write(TARGET, self._projection(self._pulled))

    def weights(
        self, params: Mapping[str, Tensor], extras: Mapping[str, Tensor], draws: torch.Generator | None
    ) -> dict[str, Tensor]:
        return {}

    def begin(self, epoch: int) -> None:
        self._rho = self._spec.rho * self._spec.growth ** self._spec.updates(epoch)
        if epoch and epoch % self._spec.update_epochs == 0:
            self._update()

    def penalty(self) -> Tensor:
        squares = [
            (weight - self.kept[TARGET + name] + self.kept[MULTIPLIER + name]).square().sum()
            for name, weight in self._pulled.items()
        ]
        return self._rho / 2 * torch.stack(squares).sum()

    @torch.no_grad()
    def _update(self) -> None:
        reached = {name: weight + self.kept[MULTIPLIER + name] for name, weight in self._pulled.items()}
        nearest = self._projection(reached)
        self._write(TARGET, nearest)
        self._write(MULTIPLIER, {name: reached[name] - nearest[name] for name in reached})

    @torch.no_grad()
    def _projection(self, points: Mapping[str, Tensor]) -> Tensors:
        """Return the nearest tensors within the budget: what a cut by magnitude, which draws nothing, leaves."""
        there = replace(self._state, params={**self._state.params, **points})
        masks = prune(self._spec.pruning, self._spec.sparsity, there, self._draws).masks
        return {name: torch.where(masks[name], point, 0.0) for name, point in points.items()}

    def _write(self, prefix: str, tensors: Tensors) -> None:
        for name, tensor in tensors.items():
            self.kept[prefix + name].copy_(tensor)
