"""A multilayer perceptron differentiated by hand, with respect to its input alone.

In a small net the autograd engine's own work between matrix products is a fifth of an attack. Linear and ReLU
layers in a row need none of it: the gradient is a product with each weight, masked where a unit was at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from trainables.models.graph.sparse_weights import SparseWeight, suits
from trainables.models.normalised import Normalise, Normalised


class Perceptron:
    """Linear layers with ReLU between them, on flattened inputs; each computes in the type of its own weights.

    Those with a mask in `sparsify` that suits it multiply by sparse matrices.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self.layers = layers
        self._sparse: dict[nn.Linear, SparseWeight] = {}

    def sparsify(self, masks: Mapping[nn.Linear, Tensor]) -> None:
        """Use sparse matrices for layers that are 0 outside these masks, where they are large and empty enough."""
        suitable = {layer: masks[layer] for layer in self.layers if layer in masks and suits(masks[layer])}
        self._sparse = {layer: SparseWeight(mask, layer.weight) for layer, mask in suitable.items()}

    def refresh(self) -> None:
        """Take the current values of the layers' weights."""
        for layer, sparse in self._sparse.items():
            sparse.refresh(layer.weight)

    @torch.no_grad()
    def input_gradient(self, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        """Do what `trainables.attacks.gradients.input_gradient` does, in the type of the first layer.

        Shapes: x and the result (N, ...), flattened to the inputs of the first layer; logits (N, K).
        """
        if self._sparse:
            return self._sparse_gradient(x, slope)
        last = self.layers[-1]
        # A handful of logits is not work: a product in low precision would cost more to start than to compute.
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

    def _sparse_gradient(self, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        """Do what `input_gradient` does, with images as columns, as sparse products want them."""
        z, hidden = x.flatten(1).T.contiguous(), []
        for layer in self.layers:
            sparse = self._sparse.get(layer)
            z = layer.weight @ z if sparse is None else sparse.forward(z)
            if layer.bias is not None:
                z += layer.bias[:, None]
            hidden.append(z.relu_() if layer is not self.layers[-1] else z)
        gradient = slope(z.T.contiguous()).T.contiguous()
        for layer, before in zip(self.layers[::-1], [*hidden[-2::-1], None], strict=True):
            sparse = self._sparse.get(layer)
            gradient = layer.weight.T @ gradient if sparse is None else sparse.backward(gradient)
            if before is not None:
                gradient = torch.ops.aten.threshold_backward(gradient, before, 0)
        return gradient.T.contiguous().view(x.shape)


class LayersInARow:
    """The logits of a perceptron behind its normalisation, without what torch does around every module.

    In a small net that takes as long as the layers. The logits and their gradients are the network's, bit for bit.
    """

    def __init__(self, normalise: Normalise | None, layers: Sequence[nn.Linear]) -> None:
        self._normalised = None if normalise is None else (normalise.mean, normalise.std)
        self._layers = [(layer.weight, layer.bias) for layer in layers]

    def __call__(self, x: Tensor) -> Tensor:
        """Shapes: x (N, C, H, W) in [0, 1] to (N, K)."""
        return self._passed(x)[-1]

    def input_gradient(self, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        """Do what `trainables.attacks.gradients.input_gradient` does. Shapes: x and the result (N, C, H, W)."""
        with torch.no_grad():
            *hidden, logits = self._passed(x)
            gradient = slope(logits) @ self._layers[-1][0]
            for (weight, _), active in zip(self._layers[-2::-1], hidden[::-1], strict=True):
                gradient = torch.ops.aten.threshold_backward(gradient, active, 0) @ weight
            gradient = gradient.view(x.shape)
            return gradient if self._normalised is None else gradient / self._normalised[1]

    def _passed(self, x: Tensor) -> list[Tensor]:
        """Return what the hidden layers give, and the logits."""
        if self._normalised is not None:
            mean, std = self._normalised
            x = (x - mean) / std
        z, found = x.flatten(1), []
        for weight, bias in self._layers[:-1]:
            z = F.linear(z, weight, bias).relu_()
            found.append(z)
        return [*found, F.linear(z, *self._layers[-1])]


def layers_of(model: nn.Module) -> LayersInARow | None:
    """Return a network of linear layers with ReLU between them as such; None if it is more."""
    if type(model) is not Normalised or type(model.net) is not nn.Sequential:
        return None
    flatten, *rest = model.net
    linear = [layer for layer in rest[::2] if type(layer) is nn.Linear]
    between = [layer for layer in rest[1::2] if type(layer) is nn.ReLU]
    if len(linear) != len(between) + 1 or len(linear) + len(between) != len(rest):
        return None
    if type(model.normalise) not in (Normalise, type(None)):
        return None
    if type(flatten) is not nn.Flatten or flatten.start_dim != 1 or flatten.end_dim != -1:
        return None
    return None if any(map(hooked, (model, model.net, *model.net))) else LayersInARow(model.normalise, linear)


def hooked(module: nn.Module) -> bool:
    """Return whether anything else happens when a module is called."""
    own = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(own)


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
