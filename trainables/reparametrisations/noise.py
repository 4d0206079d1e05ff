"""Noise on weights with trained strength."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.reparametrisations.base import EffectiveWeights, Reparametrisation, Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from trainables.models import noise
    from trainables.store.state import State


class Noise(Reparametrisation):
    """Every forward pass uses weights + coefficient * sigma * eta, with fresh eta from a standard normal.

    Sigma is the standard deviation of the layer's weights at that moment, without gradient; the coefficients are
    trained with the weights, are of either sign, and have no weight decay. What the papers say of `sigma_over`,
    `mask`, `in_training` and `in_attack` is not known to us, except that noise is on in training and attack; the rest
    is our default.
    Source: Rakin et al. 2019, arXiv:1905.13074 (`channel`); the noise is that of He et al. 2019, arXiv:1811.09310.
    """

    kind: Literal["noise"] = "noise"
    coefficients: Literal["layer", "channel", "element"] = Field(
        default="channel", description="one coefficient per layer, output channel or weight"
    )
    init: float = Field(default=0.25, description="initial value of the coefficients")
    sigma_over: Literal["all", "nonzero"] = Field(
        default="all", description="take sigma over all weights of a layer, or over those that are not 0"
    )
    mask: bool = Field(default=True, description="keep noise off pruned weights")
    in_training: bool = Field(default=True, description="whether the training loss sees the noise")
    in_attack: Literal["fresh", "held", "off"] = Field(
        default="fresh", description="what the attack sees: noise drawn for each pass, for each batch, or none"
    )

    def build(self, state: State, generator: torch.Generator, model: nn.Module, shape: Shape) -> EffectiveWeights:
        return NoisyWeights(self, state)


class NoisyWeights(EffectiveWeights):
    """Weights under noise; coefficients that the state has from an earlier training are trained on."""

    def __init__(self, spec: Noise, state: State) -> None:
        import torch
        from torch import nn

        from trainables.models import noise

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
        return replace(state, extras=self._noise({name: t.detach().clone() for name, t in extras.items()}).tensors())

    def _noise(self, extras: Mapping[str, Tensor]) -> noise.Noise:
        from trainables.models import noise

        return noise.Noise({name.removeprefix(noise.PREFIX): t for name, t in extras.items()}, **self._settings)


def _shape(weight: Tensor, coefficients: str) -> torch.Size:
    import torch

    if coefficients == "layer":
        return torch.Size([1])
    return weight.shape if coefficients == "element" else torch.Size([len(weight), *[1] * (weight.dim() - 1)])
