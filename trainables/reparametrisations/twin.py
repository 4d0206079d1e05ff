"""Weights as products of two trained factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.reparametrisations.base import EffectiveWeights, Reparametrisation, Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from trainables.store.state import State

_FIRST, _SECOND = "twin/first/", "twin/second/"


class Twin(Reparametrisation):
    """Every weight is the product of two trained factors, of which one begins as the weight.

    Both factors decay. A later training continues both, unless the one before had `fold`.
    Source: Li et al. 2023, "Learning Adversarially Robust Sparse Networks via Weight Reparameterization" (AAAI), and
    its code; `ones` is ours, for networks without batch norm, in which products of small factors silence the last
    layers.
    """

    kind: Literal["twin"] = "twin"
    init: Literal["kaiming_uniform", "ones"] = Field(
        default="kaiming_uniform",
        description="initial second factor: drawn from +-1/sqrt(fan_in), or 1, which keeps the weight",
    )
    fold: bool = Field(default=False, description="store the products alone at the end, not the factors")

    def build(self, state: State, generator: torch.Generator, model: nn.Module, shape: Shape) -> EffectiveWeights:
        return TwinFactors(self, state, generator)


class TwinFactors(EffectiveWeights):
    """A second factor beside each weight; the network's own parameters are the first."""

    def __init__(self, spec: Twin, state: State, draws: torch.Generator) -> None:
        import torch
        from torch import nn

        super().__init__()
        self._spec, self._names = spec, state.prunable()
        for name in self._names:
            weight = state.params[name]
            second = torch.ones_like(weight, requires_grad=False)
            if (before := state.extras.get(_SECOND + name)) is not None:
                second.copy_(before)
                with torch.no_grad():
                    weight.copy_(torch.where(state.masks[name], state.extras[_FIRST + name], 0.0))
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
        return replace(folded, extras={**first, **{name: t.detach().clone() for name, t in extras.items()}})
