"""Count multiply-accumulate operations of one image's forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.store.state import weight_names

_CONVOLUTIONS = nn.modules.conv._ConvNd
_TRANSPOSED = nn.modules.conv._ConvTransposeNd

Counts = dict[str, tuple[int, int]]
"""Per prunable weight: dense multiply-accumulates, and how many times each of its entries is used."""


def count(model: nn.Module, shape: tuple[int, int, int]) -> Counts:
    """Count, for the weight of every convolution and linear layer that a forward pass reaches.

    A weight entry takes part in one multiply-accumulate per output position (for a transposed convolution:
    per input position), so `nonzero entries x positions` is what a sparse pass needs. Biases,
    normalisation, activations and attention products are not counted. The model is not changed. Shapes: images of
    `shape` (C, H, W).
    """
    names = weight_names(model)
    positions: dict[str, int] = {}
    sizes: dict[str, int] = {}

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        name = names[module]
        weight = module.weight
        assert isinstance(weight, Tensor)
        seen = inputs[0] if isinstance(module, _TRANSPOSED) else output
        # One vector per position: of `out_features` entries for a linear layer, of one per channel for a convolution.
        channel = 1 if isinstance(module, _CONVOLUTIONS) else seen.dim() - 1
        positions[name] = positions.get(name, 0) + seen.numel() // seen.shape[channel]
        sizes[name] = weight.numel()

    handles = [layer.register_forward_hook(hook) for layer in names]
    modes = {module: module.training for module in model.modules()}
    like = next(model.parameters())
    try:
        model.eval()
        with torch.no_grad():
            model(torch.zeros((1, *shape), device=like.device, dtype=like.dtype))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return {name: (sizes[name] * times, times) for name, times in positions.items()}


def dense(counts: Counts) -> int:
    """Add up the multiply-accumulates of a dense forward pass."""
    return sum(macs for macs, _ in counts.values())


def effective(counts: Counts, weights: Mapping[str, Tensor]) -> int:
    """Add up the multiply-accumulates that a pass skipping every zero weight needs."""
    return sum(int(torch.count_nonzero(weights[name])) * times for name, (_, times) in counts.items())
