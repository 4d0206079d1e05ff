"""Learned masks of whole filters: a score for each, and densities of layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from trainables.models.graph.channels import Wiring
from trainables.pruning import has_filters
from trainables.pruning.filters import keep_filters
from trainables.reparametrisations.base import TrainRest
from trainables.reparametrisations.learned_weights import SCORES, Densities, RatedWeights, Sharpness, through
from trainables.store.state import State


class FilterGates(RatedWeights):
    """A score for each output filter, and a density for each layer that has some; the last one's are the classes."""

    def __init__(
        self,
        state: State,
        settings: Densities,
        train_rest: TrainRest,
        wiring: Wiring,
        uses: Mapping[str, int] | None = None,
        sharpness: Sharpness | None = None,
    ) -> None:
        self._wiring = wiring
        *inner, last = state.prunable()
        super().__init__(state, settings, train_rest, uses, tuple(filter(has_filters, inner)), sharpness)
        whole = (name for name in state.prunable() if name not in self._names)
        self._whole = {name: torch.ones(len(state.masks[name]), device=state.masks[last].device) for name in whole}
        self._shapes = {name: state.masks[name].shape[:2] for name in state.prunable()}

    def _alive(self, mask: Tensor) -> Tensor:
        return mask.flatten(1).any(dim=1)

    def _worth(self, weight: Tensor) -> Tensor:
        return weight.abs().flatten(1).mean(dim=1)

    def _even(self) -> float:
        return math.sqrt(self._wanted)

    def excess(self, extras: Mapping[str, Tensor]) -> Tensor:
        densities = self.densities(extras)
        # The differences are exactly 0: adding and taking away the numbers themselves would round.
        outputs = {
            name: chosen + (density - density.detach())
            for (name, chosen), density in zip(self._chosen(extras).items(), densities, strict=True)
        }
        outputs |= self._whole
        inputs = self._wiring.inputs(outputs)
        whole = sum(self._costs[name] for name in self._shapes)
        used = densities.new_zeros(())
        for name, (filters, channels) in self._shapes.items():
            share = outputs[name].sum() / filters
            if name in inputs:
                share = share * inputs[name].sum() / channels
            used = used + share * (self._costs[name] / whole)
        return used / self._wanted - 1

    def weights(
        self, params: Mapping[str, Tensor], extras: Mapping[str, Tensor], draws: torch.Generator | None
    ) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        densities = self.densities(extras)
        for (name, chosen), density in zip(self._chosen(extras).items(), densities, strict=True):
            gate = through(chosen, extras[SCORES + name], density)
            weight, bias = params[name].detach(), name.removesuffix("weight") + "bias"
            norm = self._wiring.norms.get(name)
            if norm is None:
                made[name] = weight * gate.view(-1, *[1] * (weight.dim() - 1))
                gated = [bias]
            else:
                # Behind the norm: it would undo any factor of the weights, and no gradient would come through.
                made[name] = weight
                gated = [f"{norm}.weight", f"{norm}.bias"]
            made |= {vector: params[vector] * gate for vector in gated if vector in params}
        return made

    def fold(self, state: State, extras: Mapping[str, Tensor]) -> State:
        scores = {
            name: priority.view(-1, *[1] * (state.masks[name].dim() - 1)).expand(state.masks[name].shape)
            for name, priority in self._priorities(extras).items()
        }
        masks = keep_filters(state, scores, self._keep, "global", "mean", self._wiring)
        return self._noted(replace(state, masks=masks).masked(), extras)
