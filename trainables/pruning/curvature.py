"""The curvature of the loss in a layer's weights as a Kronecker product of two small matrices: K-FAC."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainables.core.errors import SpecError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from trainables.pruning.network import Network

Blocks = Literal["weight", "output", "layer"]
"""Which weights of a layer share a block of its curvature: each by itself, those of an output, or all."""


@dataclass(frozen=True)
class Factors:
    """The curvature A (x) G of a layer's weights, for each group of its channels by itself.

    `inputs`, A, is the second moment of what an output's weights are multiplied with, summed over the output's
    positions; `outputs`, G, that of the gradient of an image's loss by the layer's outputs, averaged over positions.
    Source: Martens & Grosse 2015, arXiv:1503.05671; convolutions: Grosse & Martens 2016, arXiv:1602.01407.

    Shapes: inputs (groups, weights of an output, the same), outputs (groups, outputs of a group, the same).
    """

    inputs: Tensor
    outputs: Tensor

    def damage(self, change: Tensor, blocks: Blocks) -> Tensor:
        """Return each weight's share d * (G d A) / 2 of what a change d of the weights does to the loss.

        The shares of a block sum to its d' (A (x) G) d / 2, which is not negative; a single one may be. Where outputs
        are blocks, G's diagonal alone is used; where weights are, A's as well.

        Shapes: change and result as the layer's weights.
        """
        d = change.reshape(len(self.outputs), self.outputs.shape[1], -1)
        along = d * _diagonal(self.inputs)[:, None, :] if blocks == "weight" else d @ self.inputs
        along = self.outputs @ along if blocks == "layer" else _diagonal(self.outputs)[:, :, None] * along
        return (d * along / 2).reshape(change.shape)


def factors(network: Network, weights: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Iterator[tuple[str, Factors]]:
    """Yield the factors of the cross-entropy for each of `weights`, in eval mode, with the gradients of the labels `y`.

    Shapes: x (N, C, H, W), pixels in [0, 1]; y (N,).

    Raises:
        SpecError: a layer cannot be observed.
    """
    import torch

    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    logits, calls = observe(network.model, weights, lambda: network.logits(leaves, x))
    # The sum: an image's gradient is that of its own loss.
    loss = torch.nn.functional.cross_entropy(logits, y, reduction="sum")
    outputs = [call.output for found in calls.values() for call in found]
    # What does not reach the logits has a slope of 0.
    slopes = iter(torch.autograd.grad(loss, outputs, materialize_grads=True))
    for name in weights:
        moments = [(_patches(call), _rows(call.layer, next(slopes))) for call in calls.pop(name)]
        # A layer that is called more than once has more positions.
        a, g = (torch.cat(parts, dim=1) for parts in zip(*moments, strict=True))
        yield name, Factors(_moment(a) / len(a), _moment(g) / (len(g) * g.shape[1]))


@dataclass(frozen=True)
class Call:
    """What went into a layer and came out of it."""

    layer: nn.Module
    input: Tensor
    output: Tensor


def observe(
    model: nn.Module, weights: Iterable[str], forward: Callable[[], Tensor]
) -> tuple[Tensor, dict[str, list[Call]]]:
    """Return what `forward` does, and the calls of the layers of these weights while it ran.

    Raises:
        SpecError: a layer is neither linear nor a convolution that is not transposed, or its network does not call it
            as a module.
    """
    from torch import nn

    calls: dict[str, list[Call]] = {name: [] for name in weights}
    for name in calls:
        layer = model.get_submodule(name.rpartition(".")[0])
        transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
        if transposed or not isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
            raise SpecError(f"the curvature of {name} is not known: its layer is transposed, attention or recurrent")

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        def note(module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> Tensor:
            calls[name].append(Call(module, (*inputs, *named.values())[0].detach(), output))
            return output.clone()  # An activation may work in place.

        return model.get_submodule(name.rpartition(".")[0]).register_forward_hook(note, with_kwargs=True)

    hooks = [watch(name) for name in calls]
    try:
        result = forward()
    finally:
        for hook in hooks:
            hook.remove()
    for name, found in calls.items():
        if not found:
            raise SpecError(f"the curvature of {name} is not known: its layer is not called as a module")
    return result, calls


def _diagonal(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=1, dim2=2)


def _moment(rows: Tensor) -> Tensor:
    """Sum the outer products of rows (N, positions, groups, n) to (groups, n, n)."""
    flat = rows.flatten(0, 1).transpose(0, 1)
    return flat.transpose(1, 2) @ flat


def _rows(layer: nn.Module, values: Tensor) -> Tensor:
    """Bring what goes into or out of a layer to (N, positions, groups, channels of a group)."""
    from torch import nn

    if isinstance(layer, nn.modules.conv._ConvNd):
        by_position = values.flatten(2).transpose(1, 2)
        return by_position.reshape(*by_position.shape[:2], layer.groups, -1)
    return values.reshape(len(values), -1, 1, values.shape[-1])


def _patches(call: Call) -> Tensor:
    """Return what each output's weights are multiplied with: (N, positions, groups, weights of an output)."""
    import torch
    from torch import nn
    from torch.func import functional_call

    layer, x = call.layer, call.input
    if not isinstance(layer, nn.modules.conv._ConvNd):
        return _rows(layer, x)
    # The same convolution with a unit kernel for each weight, whatever its padding, stride and dilation.
    weight = layer.weight
    units = torch.eye(weight[0].numel(), dtype=x.dtype, device=x.device).view(-1, *weight.shape[1:])
    tensors = {"weight": units.repeat(layer.groups, *[1] * (weight.dim() - 1))}
    if layer.bias is not None:
        tensors["bias"] = x.new_zeros(len(tensors["weight"]))
    with torch.no_grad():
        return _rows(layer, functional_call(layer, tensors, (x,)))
