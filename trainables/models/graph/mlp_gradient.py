"""A multilayer perceptron differentiated by hand, with respect to its input alone.

In a small net the autograd engine's own work between matrix products is a fifth of an attack. Linear and ReLU
layers in a row need none of it: the gradient is a product with each weight, masked where a unit was at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn


class Perceptron:
    """Linear layers with ReLU between them, on flattened inputs; each computes in the type of its own weights."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self.layers = layers

    @torch.no_grad()
    def input_gradient(self, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        """Do what `trainables.attacks.gradients.input_gradient` does, in the type of the first layer.

        Shapes: x and the result (N, ...), flattened to the inputs of the first layer; logits (N, K).
        """
        last = self.layers[-1]
        # A handful of logits is no work: a product in low precision would cost more to start than to compute.
        weight = last.weight.to(x.dtype)
        z, hidden = x.flatten(1), []
        for layer in self.layers[:-1]:
            z = F.linear(z.to(layer.weight.dtype), layer.weight, layer.bias).relu_()
            hidden.append(z)
        bias = None if last.bias is None else last.bias.to(x.dtype)
        gradient = slope(F.linear(z.to(x.dtype), weight, bias)) @ weight
        for layer, active in zip(self.layers[-2::-1], hidden[::-1], strict=True):
            gradient = torch.ops.aten.threshold_backward(gradient.to(active.dtype), active, 0) @ layer.weight
        return gradient.view(x.shape)


def perceptron_of(net: fx.GraphModule, passes: type[nn.Module]) -> Perceptron | None:
    """Return a traced network as a perceptron, None if it is more; modules of type `passes` return their input."""
    modules = dict(net.named_modules())
    layers: list[nn.Linear] = []
    flat = False
    active = True
    before: fx.Node | None = None
    for node in net.graph.nodes:
        if node.op == "output":
            return Perceptron(layers) if node.args == (before,) and layers and not active else None
        if node.op == "call_module" and node.args == (before,) and not node.kwargs:
            module = modules[str(node.target)]
            if isinstance(module, nn.Linear) and flat and active:
                layers.append(module)
                active = False
            elif isinstance(module, nn.ReLU) and layers and not active:
                active = True
            elif isinstance(module, nn.Flatten) and module.start_dim == 1 and module.end_dim == -1:
                flat = True
            elif not isinstance(module, (passes, nn.Identity)):
                return None
        elif node.op != "placeholder" or before is not None:
            return None
        before = node
    return None
