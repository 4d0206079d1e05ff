"""A frozen twin of a network for the attack: batch norm folded away, no gradients to weights, bf16 if wished.

An attack asks for a gradient per step with respect to the input, through weights that stand still for a
whole batch. So what depends on the weights alone is done once per batch (`Twin.refresh`): batch norm and
the normalisation of pixels go into the weights of the layer beside them, and weights are cast. The twin
computes what the network computes in eval mode, with running statistics, and leaves the network alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from trainables.attacks.pgd import input_gradient
from trainables.core.precision import Resolved
from trainables.models.graph.mlp_gradient import Chain, chain_of
from trainables.models.normalised import Normalise

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_CLOSE = 1e-3


class Twin:
    """The eval-mode logits of a network, in the input's type; call `refresh` whenever its weights have changed.

    A network that torch.fx cannot trace, or whose trace disagrees with it (one that is random, say), gets a plain
    frozen copy instead: slower, and as right. `folded` tells which it is.
    """

    def __init__(self, model: nn.Module, precision: Resolved, example: Tensor) -> None:
        """Build the twin of `model` as it is; `example` is a small batch of inputs (N, C, H, W) in [0, 1]."""
        self._model = model
        self._dtype = torch.bfloat16 if precision == "bf16" else example.dtype
        self._device = example.device.type
        self._chain: Chain | None = None
        self.folded = self._fold(example)
        if not self.folded:
            self._net: nn.Module = copy.deepcopy(model).eval().requires_grad_(False)
            self._layers: list[_Layer] = []
            self._autocast = precision == "bf16"
            self._cast_input = False
        self._adopt()

    def __call__(self, x: Tensor) -> Tensor:
        context: AbstractContextManager[object] = (
            torch.autocast(self._device, torch.bfloat16) if self._autocast else nullcontext()
        )
        with context:
            logits: Tensor = self._net(x.to(self._dtype) if self._cast_input else x)
        return logits.to(x.dtype)

    def input_gradient(self, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what `trainables.attacks.pgd.input_gradient` says."""
        if self._chain is not None:
            return self._chain.input_gradient(x, slope)
        return input_gradient(self.__call__, x, slope)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the network's current weights and statistics; the normalisation stays as it was at first."""
        for layer in self._layers:
            layer.refresh()
        for mine, theirs in self._same:
            mine.copy_(theirs)

    def _adopt(self) -> None:
        """Pair the twin's tensors that are not folded with the network's, and take over all values."""
        owned = {id(t) for layer in self._layers for t in layer.twin.parameters()}
        theirs = {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
        mine = [*self._net.named_parameters(), *self._net.named_buffers()]
        self._same = [(t, theirs[name]) for name, t in mine if id(t) not in owned and name in theirs]
        self.refresh()

    def _fold(self, example: Tensor) -> bool:
        """Trace and fold, and say whether the result can stand for the network."""
        original = copy.deepcopy(self._model).eval().requires_grad_(False)
        try:
            self._net = net = fx.GraphModule(original, _Tracer().trace(original))
        except Exception:
            # Tracing runs the forward, perhaps a user's, on stand-ins for tensors: it may raise anything.
            return False
        self._layers = _fold(net, self._model)
        self._autocast = self._cast_input = False
        self._adopt()
        if not self._agrees(original, example):
            return False
        for layer in self._layers:
            layer.twin.to(self._dtype)
        entries = [module for module in net.modules() if isinstance(module, _Entry)]
        for entry in entries:
            entry.dtype = self._dtype
        self._autocast = self._dtype == torch.bfloat16 and _needs_autocast(original)
        self._cast_input = not entries and not self._autocast
        if not any(entry.subtract or entry.divide for entry in entries):
            self._chain = chain_of(net, _Entry)
        return self._runs(example)

    @torch.no_grad()
    def _agrees(self, original: nn.Module, example: Tensor) -> bool:
        wanted = original(example)
        tolerance = _CLOSE * float(wanted.abs().max())
        return self._runs(example) and torch.allclose(self(example), wanted, rtol=0, atol=tolerance)

    @torch.no_grad()
    def _runs(self, example: Tensor) -> bool:
        try:
            self(example)
        except (RuntimeError, TypeError, ValueError):
            return False
        return True


def _needs_autocast(model: nn.Module) -> bool:
    """Say whether there are weights of a kind that the twin does not cast itself."""
    known = (nn.Conv2d, nn.Linear, *_BATCH_NORMS)
    return any(len(list(m.parameters(recurse=False))) for m in model.modules() if not isinstance(m, known))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Normalise) or super().is_leaf_module(m, module_qualified_name)


class _Entry(nn.Module):
    """The normalisation, less what is folded into the layer that reads it, and the cast.

    Without such a layer nothing is folded. Otherwise the division is, and the subtraction too unless the layer
    pads: zeros around pixels less their mean stay what they were, around bare pixels they would not.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, normalise: Normalise, reader: nn.Conv2d | nn.Linear | None) -> None:
        super().__init__()
        self.register_buffer("mean", normalise.mean.detach().clone())
        self.register_buffer("std", normalise.std.detach().clone())
        self.dtype = self.mean.dtype
        self.subtract = reader is None or any(getattr(reader, "padding", (0,)))
        self.divide = reader is None
        if reader is not None:
            # What the reader's weights are multiplied with, and the mean image as each of its outputs sees it.
            repeats = reader.weight[0].numel() // self.mean.numel()
            inverse = 1 / self.std
            flat = isinstance(reader, nn.Linear)
            self.inverse = _per_input(inverse, repeats) if flat else inverse
            self.image = self.mean.flatten().repeat_interleave(repeats)

    def forward(self, x: Tensor) -> Tensor:
        if self.subtract:
            x = x - self.mean
        if self.divide:
            x = x / self.std
        return x.to(self.dtype)


def _per_input(channels: Tensor, repeats: int) -> Tensor:
    """Repeat values per channel for every pixel; a single one broadcasts faster as it is."""
    return channels.flatten().repeat_interleave(repeats) if channels.numel() > 1 else channels.flatten()


@dataclass(frozen=True)
class _Layer:
    """A convolution or linear layer of the twin, and the network's modules that are folded into it."""

    twin: nn.Conv2d | nn.Linear
    source: nn.Conv2d | nn.Linear
    batch_norm: nn.BatchNorm1d | nn.BatchNorm2d | None
    entry: _Entry | None

    def refresh(self) -> None:
        weight, bias = self.source.weight, self.source.bias
        if (bn := self.batch_norm) is not None:
            assert bn.running_mean is not None
            assert bn.running_var is not None
            scale = torch.rsqrt(bn.running_var + bn.eps)
            scale = scale if bn.weight is None else scale * bn.weight
            shift = -bn.running_mean if bias is None else bias - bn.running_mean
            bias = shift * scale if bn.bias is None else torch.addcmul(bn.bias, shift, scale)
            weight = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
        if self.entry is not None:
            weight = weight * self.entry.inverse
            if not self.entry.subtract:
                offset = weight.flatten(1) @ self.entry.image
                bias = -offset if bias is None else bias - offset
        self.twin.weight.copy_(weight)
        if bias is not None:
            assert self.twin.bias is not None
            self.twin.bias.copy_(bias)


def _fold(net: fx.GraphModule, model: nn.Module) -> list[_Layer]:
    """Fold batch norms and the normalisation of a traced network in place; return its layers."""
    graph = _Graph(net)
    sources = dict(model.named_modules())
    layers: dict[str, _Layer] = {}
    for node in list(net.graph.nodes):
        module, name = graph.module(node), str(node.target)
        if not isinstance(module, (nn.Conv2d, nn.Linear)) or name in layers:
            continue
        bn, reads = graph.batch_norm_after(node), graph.normalise_before(node)
        batch_norm = sources[str(bn.target)] if bn else None
        normalise = sources[str(reads.target)] if reads else None
        assert batch_norm is None or isinstance(batch_norm, _BATCH_NORMS)
        entry = None
        if reads:
            assert isinstance(normalise, Normalise)
            entry = _Entry(normalise, module)
            net.set_submodule(str(reads.target), entry)
        twin = copy.deepcopy(module)
        if twin.bias is None and (bn or (entry and not entry.subtract)):
            twin.bias = nn.Parameter(twin.weight.new_zeros(len(twin.weight)), requires_grad=False)
        net.set_submodule(name, twin)
        source = sources[name]
        assert isinstance(source, (nn.Conv2d, nn.Linear))
        layers[name] = _Layer(twin, source, batch_norm, entry)
        if bn:
            bn.replace_all_uses_with(node)
            net.graph.erase_node(bn)
    for name, module in list(net.named_modules()):
        if isinstance(module, Normalise):
            net.set_submodule(name, _Entry(module, None))
    net.delete_all_unused_submodules()
    net.recompile()
    return list(layers.values())


class _Graph:
    """Questions about a traced network, asked before it is changed."""

    def __init__(self, net: fx.GraphModule) -> None:
        self._modules = dict(net.named_modules())
        called = [str(node.target) for node in net.graph.nodes if node.op == "call_module"]
        self._calls = {name: called.count(name) for name in called}

    def module(self, node: object) -> nn.Module | None:
        """Return the module that a node calls, if it calls one."""
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return None
        module: nn.Module = self._modules[str(node.target)]
        return module

    def batch_norm_after(self, node: fx.Node) -> fx.Node | None:
        """Return the batch norm that alone reads this layer and reads nothing else, if it has running statistics."""
        if len(node.users) != 1:
            return None
        (user,) = node.users
        module = self.module(user)
        if not isinstance(module, _BATCH_NORMS) or module.running_mean is None:
            return None
        return user if self._once(node) and self._once(user) else None

    def normalise_before(self, node: fx.Node) -> fx.Node | None:
        """Return the normalisation that only this layer reads; a linear layer may read it through a flattening."""
        if not node.args:  # Called by keyword.
            return None
        layer, before = self.module(node), node.args[0]
        if isinstance(layer, nn.Linear):
            if not isinstance(self.module(before), nn.Flatten) or not self._read_once(before):
                return None
            assert isinstance(before, fx.Node)
            before = before.args[0]
        elif not isinstance(layer, nn.Conv2d) or layer.groups != 1 or isinstance(layer.padding, str):
            return None
        if not isinstance(self.module(before), Normalise) or not self._read_once(before):
            return None
        assert isinstance(before, fx.Node)
        return before if self._once(node) else None

    def _once(self, node: fx.Node) -> bool:
        return self._calls[str(node.target)] == 1

    def _read_once(self, node: object) -> bool:
        return isinstance(node, fx.Node) and len(node.users) == 1 and self._once(node)
