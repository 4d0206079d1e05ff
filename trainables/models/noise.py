"""Gaussian noise on the weights of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.store.state import State, Tensors

PREFIX = "noise/"
_MASKED, _NONZERO = "noise.masked", "noise.nonzero"


@dataclass(frozen=True)
class Noise:
    """Noise of standard deviation |alpha| * sigma on each weight, sigma being the standard deviation of its layer.

    `alpha` broadcasts against the weight of its name. With `masked` pruned weights have no noise; with `nonzero` sigma
    is that of the weights that are not 0 instead of all.
    """

    alpha: Mapping[str, Tensor]
    masked: bool
    nonzero: bool

    @classmethod
    def of(cls, state: State) -> Noise | None:
        """Return the noise of a state, None where it has none."""
        alpha = {name.removeprefix(PREFIX): t for name, t in state.extras.items() if name.startswith(PREFIX)}
        if not alpha:
            return None
        return cls(alpha, bool(state.extras[_MASKED]), bool(state.extras[_NONZERO]))

    def tensors(self) -> Tensors:
        """Return the noise as tensors of a state."""
        settings = {_MASKED: torch.tensor(self.masked), _NONZERO: torch.tensor(self.nonzero)}
        return {**{PREFIX + name: alpha for name, alpha in self.alpha.items()}, **settings}

    def sigma(self, weight: Tensor) -> Tensor:
        """Return the standard deviation of a layer's weights, with Bessel's correction, a scalar; 0 for one weight."""
        weight = weight.detach()
        counted = (weight != 0).to(weight.dtype) if self.nonzero else torch.ones_like(weight)
        n = counted.sum()
        mean = (weight * counted).sum() / n.clamp_min(1)
        return (((weight - mean) * counted).square().sum() / (n - 1).clamp_min(1)).sqrt()

    def on(
        self, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return weights with fresh noise, shaped like them, differentiable in the weights and in alpha."""
        noisy = {}
        for name, alpha in self.alpha.items():
            weight = weights[name]
            eta = torch.empty_like(weight, requires_grad=False).normal_(generator=generator) * self.sigma(weight)
            noisy[name] = weight + alpha * (eta * masks[name] if self.masked else eta)
        return noisy

    def strength(self) -> float:
        """Return the mean absolute coefficient."""
        return float(torch.cat([alpha.abs().flatten() for alpha in self.alpha.values()]).mean())

    def density(self, state: State) -> float:
        """Return the share of prunable weights that are not 0 in a pass with noise."""
        living = 0
        for name in state.prunable():
            alive, mask = state.params[name] != 0, state.masks[name]
            if name in self.alpha:
                noisy = (self.alpha[name] != 0).expand_as(alive)
                alive = alive | (noisy & mask if self.masked else noisy)
            living += int(alive.sum())
        return living / state.size()


class Noisy(nn.Module):
    """A network with fresh noise from `generator`, which has to be set, in every pass.

    Shapes: images (N, C, H, W) to logits (N, K).
    """

    def __init__(self, net: nn.Module, noise: Noise, masks: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.net = net
        self.generator: torch.Generator | None = None
        self._noise, self._masks = noise, dict(masks)
        self._weights = {name: p for name, p in net.named_parameters() if name in noise.alpha}

    def forward(self, x: Tensor) -> Tensor:
        assert self.generator is not None, "set the generator of a noisy network first"
        logits: Tensor = functional_call(self.net, self._noise.on(self._weights, self._masks, self.generator), (x,))
        return logits
