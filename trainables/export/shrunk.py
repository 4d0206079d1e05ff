"""A network without its dead filters: smaller dense layers that compute the same logits.

A filter is dead if its weights are all 0, and its bias and batch norm are; so is every input that reads only dead
filters. A value of which only some channels are alive has those alone if all layers that read it can do with that, and
is spread to all channels with zeros otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from trainables.core.errors import SpecError
from trainables.models.graph.channels import Wiring, shape_of
from trainables.models.graph.tracing import BATCH_NORMS
from trainables.store.state import State, duplicate

Live = Tensor | None


class Spread(nn.Module):
    """Channels at their indices among `channels`, zeros between them. Shapes: (N, C, ...) to (N, channels, ...)."""

    index: Tensor

    def __init__(self, index: Tensor, channels: int) -> None:
        super().__init__()
        # Not persistent: it follows from the structure.
        self.register_buffer("index", index, persistent=False)
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        whole = x.new_zeros((len(x), self.channels, *x.shape[2:]))
        return whole.index_copy(1, self.index, x)


def shrunk(model: nn.Module, state: State, shape: tuple[int, int, int]) -> nn.Module:
    """Return the network of `model` with the tensors of `state`, without its dead filters, in eval mode on the CPU.

    Its logits are those of the full network, up to rounding. Both arguments stay unchanged.

    Shapes: images (N, *shape) in [0, 1] to logits (N, classes).
    Raises:
        SpecError: the network cannot be traced.
    """
    whole = state.to("cpu").into(duplicate(model).cpu())
    return without(whole, living(whole, shape), shape)


def living(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """Return which outputs of each layer may differ from 0, by the layer's weight: at least one of each.

    Layers whose channels are not understood are left out.

    Shapes: images (N, *shape); the result (outputs of the layer,), boolean.
    Raises:
        SpecError: the network cannot be traced.
    """
    wiring = _wired(model, shape)
    return {name: _outputs(name.removesuffix(".weight"), wiring, model) for name in _layers(wiring)}


def without(model: nn.Module, alive: Mapping[str, Tensor], shape: tuple[int, int, int]) -> nn.Module:
    """Return a network without the outputs that are not `alive`, as `living` returns them, in eval mode on the CPU.

    Raises:
        SpecError: the network cannot be traced, or has other layers.
    """
    wiring = _wired(model, shape)
    if {name: len(outputs) for name, outputs in alive.items()} != _layers(wiring):
        raise SpecError("the smaller layers are not those of the network")
    return _Shrinking(wiring, alive).net()


def _wired(model: nn.Module, shape: tuple[int, int, int]) -> Wiring:
    wiring = Wiring(model, shape)
    if wiring.net is None:
        raise SpecError("the network cannot be traced by torch.fx, so its dead filters cannot be removed")
    wiring.net.requires_grad_(False)
    return wiring


def _layers(wiring: Wiring) -> dict[str, int]:
    """Return the number of outputs of each layer that can be made smaller, by its weight."""
    assert wiring.net is not None
    layers = {f"{node.target}.weight": wiring.layer(node) for node in wiring.net.graph.nodes}
    return {name: len(layer.weight) for name, layer in layers.items() if layer is not None}


class _Shrinking:
    """Rebuilds one traced network, node by node."""

    def __init__(self, wiring: Wiring, alive: Mapping[str, Tensor]) -> None:
        assert wiring.net is not None
        self._wiring, self._traced = wiring, wiring.net
        self._live = wiring.live(alive)

    def net(self) -> nn.Module:
        """Return the smaller network."""
        kept: dict[fx.Node, Live] = {}
        for node in list(self._traced.graph.nodes):
            kept[node] = self._rebuilt(node, kept)
        self._traced.delete_all_unused_submodules()
        self._traced.recompile()
        return self._traced

    def _rebuilt(self, node: fx.Node, kept: dict[fx.Node, Live]) -> Live:
        """Adapt a node to inputs of living channels alone; return which channels its value then has."""
        live = self._live.get(node)
        layer = self._wiring.layer(node)
        if layer is not None:
            assert live is not None
            self._replace(node, _smaller(layer, live, kept[node.all_input_nodes[0]]))
            return None if bool(live.all()) else live
        before = [kept[other] for other in node.all_input_nodes]
        if all(other is None for other in before):
            return None
        if live is not None and len(before) == 1 and self._passes(node):
            module = self._wiring.module(node)
            if isinstance(module, BATCH_NORMS):
                assert before[0] is not None
                self._replace(node, _smaller_norm(module, before[0]))
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
        self._traced.add_submodule(name, Spread(places(has, wanted), int(wanted.sum())))
        with self._traced.graph.inserting_before(node):
            spread = self._traced.graph.call_module(name, (other,))
        node.replace_input_with(other, spread)

    def _replace(self, node: fx.Node, module: nn.Module) -> None:
        self._traced.set_submodule(str(node.target), module)


def places(has: Tensor, wanted: Tensor) -> Tensor:
    """Return the indices of the channels of `has` among those of `wanted`.

    Shapes: has and wanted (channels,), boolean; the result (channels in `has`,).
    """
    assert not bool((has & ~wanted).any()), "no channel is dropped"
    return (wanted.cumsum(0) - 1)[has]


def _outputs(name: str, wiring: Wiring, model: nn.Module) -> Tensor:
    """Return which outputs of a layer may differ from 0, behind its batch norm if it has one; at least one."""
    params = {key: p.detach().cpu() for key, p in model.named_parameters(remove_duplicate=False)}
    buffers = {key: b.cpu() for key, b in model.named_buffers()}
    live = params[f"{name}.weight"].flatten(1).any(dim=1)
    norm = wiring.norms.get(f"{name}.weight")
    if (bias := params.get(f"{name}.bias")) is not None:
        live = live | (bias != 0)
    if norm is not None:
        # Of an input of 0 a batch norm makes its shift less the scaled mean.
        scale, shift, mean = params[f"{norm}.weight"], params[f"{norm}.bias"], buffers[f"{norm}.running_mean"]
        live = live | (shift != 0) | ((mean != 0) & (scale != 0))
    if not bool(live.any()):
        live = live.clone()
        live[0] = True
    return live


def _smaller(layer: nn.Conv2d | nn.Linear, outputs: Tensor, inputs: Live) -> nn.Conv2d | nn.Linear:
    """Return a layer with the living outputs, which reads the living inputs alone."""
    weight = layer.weight[outputs]
    weight = weight if inputs is None else weight[:, inputs]
    small = copy.deepcopy(layer)
    small.weight = nn.Parameter(weight.clone(), requires_grad=False)
    if layer.bias is not None:
        small.bias = nn.Parameter(layer.bias[outputs].clone(), requires_grad=False)
    if isinstance(small, nn.Conv2d):
        small.out_channels, small.in_channels = weight.shape[:2]
    else:
        small.out_features, small.in_features = weight.shape
    return small


def _smaller_norm(norm: nn.Module, live: Tensor) -> nn.Module:
    small = copy.deepcopy(norm)
    assert isinstance(small, BATCH_NORMS)
    for name in ("weight", "bias"):
        small.register_parameter(name, nn.Parameter(getattr(norm, name)[live].clone(), requires_grad=False))
    for name in ("running_mean", "running_var"):
        small.register_buffer(name, getattr(norm, name)[live].clone())
    small.num_features = int(live.sum())
    return small
