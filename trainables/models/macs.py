"""Count multiply-accumulate operations of one image's forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.store.state import weight_names

_CONVOLUTIONS = nn.modules.conv._ConvNd
_TRANSPOSED = nn.modules.conv._ConvTransposeNd

Counts = dict[str, tuple[int, int]]
"""Per prunable weight: dense multiply-accumulates, and how many times each of its entries is used."""


def count(model: nn.Module, shape: tuple[int, int, int]) -> Counts:
    """Count, for every prunable weight that a forward pass reaches.

    A weight entry takes part in one multiply-accumulate per output position (for a transposed convolution:
    per input position), and of a recurrent layer per step, so `nonzero entries x positions` is what a sparse pass
    needs. Where attention reads queries and keys of different lengths, the entries of one weight for both count the
    mean of their positions. Biases, normalisation, activations and attention products are not counted. The model is
    not changed. Shapes: images of `shape` (C, H, W).
    """
    names = weight_names(model)
    positions: dict[str, int] = {}
    sizes: dict[str, int] = {}

    def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        for layer, attribute, times in _uses(module, inputs, named, output):
            name = names[layer][attribute]
            positions[name] = positions.get(name, 0) + times
            weight: Tensor = getattr(layer, attribute)
            sizes[name] = weight.numel()

    handles = [layer.register_forward_hook(hook, with_kwargs=True) for layer in names]
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


def _uses(
    module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Any
) -> Iterator[tuple[nn.Module, str, int]]:
    """Yield the weights that a call of a layer uses, by layer and attribute, and how many times each entry."""
    if isinstance(module, nn.MultiheadAttention):
        given = {**dict(zip(("query", "key"), inputs, strict=False)), **named}
        query, key = (given[name].numel() // given[name].shape[-1] for name in ("query", "key"))
        each = {"q_proj_weight": query, "k_proj_weight": key, "v_proj_weight": key}
        each["in_proj_weight"] = round((query + 2 * key) / 3)
        yield from ((module, name, each[name]) for name in each if module._parameters.get(name) is not None)
        # It is not called as a module.
        yield module.out_proj, "weight", query
    elif isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        seen = inputs[0] if inputs else named["input"]
        seen = seen.data if isinstance(seen, nn.utils.rnn.PackedSequence) else seen
        steps = seen.numel() // seen.shape[-1]
        yield from ((module, name, steps) for name in module._parameters if name.startswith("weight"))
    else:
        seen = (*inputs, *named.values())[0] if isinstance(module, _TRANSPOSED) else output
        # One vector per position: of `out_features` entries for a linear layer, of one per channel for a convolution.
        channel = 1 if isinstance(module, _CONVOLUTIONS) else seen.dim() - 1
        yield module, "weight", seen.numel() // seen.shape[channel]


def dense(counts: Counts) -> int:
    """Add up the multiply-accumulates of a dense forward pass."""
    return sum(macs for macs, _ in counts.values())


def effective(counts: Counts, weights: Mapping[str, Tensor]) -> int:
    """Add up the multiply-accumulates that a pass skipping every zero weight needs."""
    return sum(int(torch.count_nonzero(weights[name])) * times for name, (_, times) in counts.items())
