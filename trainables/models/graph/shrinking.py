"""A traced network rebuilt without channels that are always 0: smaller dense layers that compute the same logits.

A value of which only some channels are left has those alone if all layers that read it can do with that, and is spread
to all channels with zeros otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from trainables.models.graph.channels import Live, Wiring, shape_of
from trainables.models.graph.tracing import BATCH_NORMS
from trainables.models.nets.spread import Spread


def layers(wiring: Wiring) -> dict[str, int]:
    """Return the number of outputs of each layer that can be made smaller, by its weight."""
    assert wiring.net is not None
    found = {f"{node.target}.weight": wiring.layer(node) for node in wiring.net.graph.nodes}
    return {name: len(layer.weight) for name, layer in found.items() if layer is not None}


class Shrinking:
    """Rebuilds the network of a wiring, node by node, with the outputs of layers that are `alive`, by weight.

    `net` is the smaller network, made of the wiring's own. `kept` says by name which entries of a tensor it has: along
    the first dimension, and for weights along the second, None for all.

    Shapes: alive and the vectors in `kept` (channels,), boolean.
    """

    def __init__(self, wiring: Wiring, alive: Mapping[str, Tensor], spread: type[Spread] = Spread) -> None:
        assert wiring.net is not None
        self._wiring, self._spread_by = wiring, spread
        self.net = wiring.net
        self.kept: dict[str, tuple[Tensor, Live]] = {}
        self._live = wiring.live(alive)
        left: dict[fx.Node, Live] = {}
        for node in list(self.net.graph.nodes):
            left[node] = self._rebuilt(node, left)
        self.net.delete_all_unused_submodules()
        self.net.recompile()

    def _rebuilt(self, node: fx.Node, left: dict[fx.Node, Live]) -> Live:
        """Adapt a node to inputs of living channels alone; return which channels its value then has."""
        live = self._live.get(node)
        layer = self._wiring.layer(node)
        if layer is not None:
            assert live is not None
            self._replace(node, self._smaller(str(node.target), layer, live, left[node.all_input_nodes[0]]))
            return None if bool(live.all()) else live
        before = [left[other] for other in node.all_input_nodes]
        if all(other is None for other in before):
            return None
        if live is not None and len(before) == 1 and self._passes(node):
            module = self._wiring.module(node)
            if isinstance(module, BATCH_NORMS):
                assert before[0] is not None
                self._replace(node, self._smaller_norm(str(node.target), module, before[0]))
            return live
        # Additions of living channels take the union; every other node gets all channels.
        union = len(before) == 2 and all(has is not None for has in before)
        wanted = live if union else None
        for other, has in zip(node.all_input_nodes, before, strict=True):
            self._spread(node, other, has, wanted)
        return wanted

    def _passes(self, node: fx.Node) -> bool:
        """Return whether a node works on each living channel by itself."""
        module = self._wiring.module(node)
        live, before = self._live[node], self._live[node.all_input_nodes[0]]
        assert live is not None
        assert before is not None
        if isinstance(module, nn.Flatten):
            return True
        # A shortcut that pads moves channels.
        return len(live) == len(before) and torch.equal(live, before)

    def _spread(self, node: fx.Node, other: fx.Node, has: Live, wanted: Live) -> None:
        """Give `node` its input from `other` with the `wanted` channels, by default all."""
        if has is None:
            return
        wanted = torch.ones(shape_of(other)[1], dtype=torch.bool) if wanted is None else wanted
        if torch.equal(has, wanted):
            return
        name = f"spread_{other.name}_{node.name}"
        self.net.add_submodule(name, self._spread_by(places(has, wanted), int(wanted.sum())))
        with self.net.graph.inserting_before(node):
            spread = self.net.graph.call_module(name, (other,))
        node.replace_input_with(other, spread)

    def _replace(self, node: fx.Node, module: nn.Module) -> None:
        self.net.set_submodule(str(node.target), module)

    def _smaller(self, path: str, layer: nn.Conv2d | nn.Linear, outputs: Tensor, inputs: Live) -> nn.Conv2d | nn.Linear:
        """Return a layer with the living outputs, which reads the living inputs alone."""
        weight = layer.weight[outputs]
        weight = weight if inputs is None else weight[:, inputs]
        self.kept[f"{path}.weight"] = outputs, inputs
        small = copy.deepcopy(layer)
        small.weight = nn.Parameter(weight.clone(), requires_grad=False)
        if layer.bias is not None:
            small.bias = nn.Parameter(layer.bias[outputs].clone(), requires_grad=False)
            self.kept[f"{path}.bias"] = outputs, None
        if isinstance(small, nn.Conv2d):
            small.out_channels, small.in_channels = weight.shape[:2]
        else:
            small.out_features, small.in_features = weight.shape
        return small

    def _smaller_norm(self, path: str, norm: nn.Module, live: Tensor) -> nn.Module:
        small = copy.deepcopy(norm)
        assert isinstance(small, BATCH_NORMS)
        for name in ("weight", "bias"):
            small.register_parameter(name, nn.Parameter(getattr(norm, name)[live].clone(), requires_grad=False))
            self.kept[f"{path}.{name}"] = live, None
        for name in ("running_mean", "running_var"):
            small.register_buffer(name, getattr(norm, name)[live].clone())
            self.kept[f"{path}.{name}"] = live, None
        small.num_features = int(live.sum())
        return small


def places(has: Tensor, wanted: Tensor) -> Tensor:
    """Return the indices of the channels of `has` among those of `wanted`.

    Shapes: has and wanted (channels,), boolean; the result (channels in `has`,).
    """
    assert not bool((has & ~wanted).any()), "no channel is dropped"
    return (wanted.cumsum(0) - 1)[has]
