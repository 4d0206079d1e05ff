"""Which channels of a network feed which: what a pruned filter silences beyond its own weights.

Read from a trace of the network by torch.fx. Where something is not understood, all its channels count as
alive; a network that cannot be traced has no layers here, and its filters are pruned alone.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from trainables.models.graph.tracing import BATCH_NORMS, Graph, trace
from trainables.models.nets.resnet import PadShortcut
from trainables.store.state import duplicate

PASSES = (
    nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.Identity, nn.Dropout, nn.Dropout2d,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
)  # fmt: skip
"""Modules that work on each channel by itself and keep a channel of zeros."""
ADDITIONS: tuple[Callable[..., Any], ...] = (operator.add, operator.iadd, torch.add)

Live = Tensor | None
"""Which channels may differ from 0, a vector of booleans or of 0 and 1; None where that is unknown."""


class Wiring:
    """The layers of a traced network, their batch norms, and where their channels go.

    `norms` names, per weight of a layer, the batch norm that alone reads the layer and reads nothing else.
    """

    def __init__(self, model: nn.Module, shape: tuple[int, int, int]) -> None:
        """Trace a copy of `model` with images (N, *shape)."""
        self.norms: dict[str, str] = {}
        self.net: fx.GraphModule | None = None
        traced = trace(duplicate(model).cpu().eval())
        if traced is None or not _with_shapes(traced, shape):
            return
        self.net = traced
        self._graph = Graph(traced)
        for node in traced.graph.nodes:
            if (bn := self._norm_after(node)) is not None:
                self.norms[f"{node.target}.weight"] = str(bn.target)

    def scales(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the scale of the batch norm behind each layer that has one, by the layer's weight: (outputs,)."""
        named = {name: f"{norm}.weight" for name, norm in self.norms.items()}
        return {name: params[scale] for name, scale in named.items() if scale in params}

    def inputs(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return which inputs of each layer may differ from 0, given which outputs of each layer may, by weight.

        A dead output is one whose weights, bias, and batch norm are all 0. Where `outputs` are numbers, 0 and 1, the
        result is differentiable in them.

        Shapes: outputs (outputs of the layer,), the result (inputs of the layer,), both of one type.
        """
        known = self.live(outputs)
        layers = [node for node in known if self.layer(node) is not None]
        arriving = {f"{node.target}.weight": known[node.all_input_nodes[0]] for node in layers}
        return {name: live for name, live in arriving.items() if live is not None}

    def live(self, outputs: Mapping[str, Tensor]) -> dict[fx.Node, Live]:
        """Return which channels of each value of the network may differ from 0; see `inputs`."""
        known: dict[fx.Node, Live] = {}
        for node in self.net.graph.nodes if self.net is not None else ():
            if self.layer(node) is not None:
                known[node] = outputs.get(f"{node.target}.weight")
            else:
                known[node] = self._after(node, [known[before] for before in node.all_input_nodes])
        return known

    def heard(self, used: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return which outputs of each layer reach something: an input that is used, or what is not understood.

        `used` says, by the weight of a layer, which of its inputs any of its weights reads; a layer without counts as
        reading all. The network's own outputs are heard.

        Shapes: used (inputs of the layer,) bool, the result (outputs of the layer,) bool.
        """
        outputs: dict[str, Tensor] = {}
        for node in self.net.graph.nodes if self.net is not None else ():
            if (layer := self.layer(node)) is not None:
                outputs[f"{node.target}.weight"] = torch.ones(layer.weight.shape[0], requires_grad=True)
        if not outputs:
            return {}
        total = torch.zeros(())
        known = self.live(outputs)
        for node, live in known.items():
            if live is None:
                continue
            for reader in node.users:
                read = used.get(f"{reader.target}.weight") if self.layer(reader) is not None else None
                if read is not None:
                    total = total + live[read.cpu()].sum()
                elif known.get(reader) is None or self.layer(reader) is not None:
                    total = total + live.sum()
        found = torch.autograd.grad(total, list(outputs.values()), allow_unused=True, materialize_grads=True)
        return {name: gradient > 0 for name, gradient in zip(outputs, found, strict=True)}

    def layer(self, node: fx.Node) -> nn.Conv2d | nn.Linear | None:
        """Return the layer that a node calls, if its channels are understood: one call, one group, channels first."""
        module = self.module(node)
        if not isinstance(module, (nn.Conv2d, nn.Linear)) or not self._graph.called_once(node):
            return None
        if "weight" not in module._parameters:
            return None
        if isinstance(module, nn.Conv2d):
            return module if module.groups == 1 else None
        return module if len(shape_of(node)) == 2 else None

    def module(self, node: object) -> nn.Module | None:
        """Return the module that a node calls, if it calls one."""
        return self._graph.module(node)

    def _after(self, node: fx.Node, inputs: list[Live]) -> Live:
        module = self.module(node)
        first = inputs[0] if inputs else None
        if first is None:
            return None
        if isinstance(module, PASSES) or node.target is F.relu:
            return first
        if isinstance(module, BATCH_NORMS):
            return first if str(node.target) in self.norms.values() else None
        if isinstance(module, PadShortcut):
            front = module.more // 2
            return F.pad(first, (front, module.more - front))
        if isinstance(module, nn.Flatten) and module.start_dim == 1:
            return first.repeat_interleave(shape_of(node)[1] // len(first))
        if node.target in ADDITIONS and len(inputs) == 2 and inputs[1] is not None and len(first) == len(inputs[1]):
            return torch.maximum(first, inputs[1])
        return None

    def _norm_after(self, node: fx.Node) -> fx.Node | None:
        if self.layer(node) is None or (user := self._graph.batch_norm_after(node)) is None:
            return None
        bn = self.module(user)
        return user if isinstance(bn, BATCH_NORMS) and bn.affine else None


def _with_shapes(traced: fx.GraphModule, shape: tuple[int, int, int]) -> bool:
    """Record the shape of each value for two images in the graph; return whether the network runs on them."""
    try:
        with torch.no_grad():
            ShapeProp(traced).propagate(torch.zeros((2, *shape)))
    except Exception:
        # The forward is perhaps a user's: it may raise anything.
        return False
    return True


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's value for two images."""
    return tuple(node.meta["tensor_meta"].shape)
