"""A frozen copy of a network for the attack: batch norm folded away, no gradients of weights, optionally in bf16.

An attack computes a gradient with respect to the input per step, with weights that do not change during a batch. So
what depends on the weights alone is done once per batch (`FrozenAttackModel.refresh`): batch norm and the normalisation
of pixels are folded into the weights of the layer beside them, and weights are cast. The copy computes what the
network computes in eval mode, with running statistics, and does not change the network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from trainables.attacks.gradients import input_gradient
from trainables.core.errors import Diverged
from trainables.core.precision import Resolved
from trainables.models.graph.logits import same_logits
from trainables.models.graph.mlp_gradient import Perceptron, perceptron_of
from trainables.models.graph.tracing import BATCH_NORMS, Graph, trace
from trainables.models.normalised import Normalise
from trainables.store.state import duplicate


class FrozenAttackModel:
    """The eval-mode logits of a network, in the input's type; call `outdate` whenever its weights have changed.

    A network that torch.fx cannot trace, or whose trace disagrees with it (a random one, for example), is copied and
    frozen instead, which is slower and equally correct; `folded` is False then.
    """

    def __init__(
        self, model: nn.Module, precision: Resolved, example: Tensor, masks: Mapping[str, Tensor] | None = None
    ) -> None:
        """Freeze `model` as it is; a perceptron in fp32 with sparse matrices where `masks`, by weight, hold zeros.

        Shapes: example, a small batch of inputs, (N, C, H, W) in [0, 1].
        """
        self._model = model
        self._dtype = torch.bfloat16 if precision == "bf16" else example.dtype
        self._device = example.device.type
        self._perceptron: Perceptron | None = None
        self._outdated = False
        self.folded = self._fold(example)
        if not self.folded:
            self._perceptron = None
            self._net: nn.Module = duplicate(model).eval().requires_grad_(False)
            self._layers: list[_Layer] = []
            self._autocast = precision == "bf16"
            self._cast_input = False
        self._pair_tensors()
        if self._perceptron is not None and masks is not None and self._dtype == torch.float32:
            self._perceptron.sparsify(self._by_layer(masks))

    def _by_layer(self, masks: Mapping[str, Tensor]) -> dict[nn.Linear, Tensor]:
        names = {layer: f"{name}.weight" for name, layer in self._model.named_modules()}
        linear = [(layer.folded, names[layer.source]) for layer in self._layers]
        return {layer: masks[name] for layer, name in linear if isinstance(layer, nn.Linear) and name in masks}

    def __call__(self, x: Tensor) -> Tensor:
        self._follow()
        context: AbstractContextManager[object] = (
            torch.autocast(self._device, torch.bfloat16) if self._autocast else nullcontext()
        )
        with context:
            logits: Tensor = self._net(x.to(self._dtype) if self._cast_input else x)
        return logits.to(x.dtype)

    def input_gradient(self, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        """Do what `trainables.attacks.gradients.input_gradient` does. Shapes: x and the result (N, C, H, W)."""
        self._follow()
        if self._perceptron is not None:
            return self._perceptron.input_gradient(x, slope)
        return input_gradient(self.__call__, x, slope)

    def outdate(self) -> None:
        """Note that the network has changed: the next use calls `refresh` first, and no use costs nothing."""
        self._outdated = True

    def _follow(self) -> None:
        if self._outdated:
            self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the network's current weights and statistics; the normalisation stays as it was at first."""
        self._outdated = False
        for layer in self._layers:
            layer.refresh()
        for mine, theirs in self._same:
            mine.copy_(theirs)
        if self._perceptron is not None:
            self._perceptron.refresh()

    def _pair_tensors(self) -> None:
        """Pair the tensors that are not folded with the network's, and copy all values."""
        owned = {id(t) for layer in self._layers for t in layer.folded.parameters()}
        theirs = {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
        mine = [*self._net.named_parameters(), *self._net.named_buffers()]
        self._same = [(t, theirs[name]) for name, t in mine if id(t) not in owned and name in theirs]
        self.refresh()

    def _fold(self, example: Tensor) -> bool:
        """Trace and fold; return whether the result agrees with the network."""
        original = duplicate(self._model).eval().requires_grad_(False)
        # Before it is traced: a network may keep what it computes, and then of stand-ins for tensors.
        with torch.no_grad():
            wanted = original(example)
        if (net := trace(original)) is None:
            return False
        self._net = net
        self._layers = _fold(net, self._model)
        self._autocast = self._cast_input = False
        self._pair_tensors()
        if not self._agrees(wanted, example):
            return False
        for layer in self._layers:
            layer.folded.to(self._dtype)
        entries = [module for module in net.modules() if isinstance(module, _FoldedNormalise)]
        for entry in entries:
            entry.dtype = self._dtype
        self._autocast = self._dtype == torch.bfloat16 and _needs_autocast(original)
        self._cast_input = not entries and not self._autocast
        if not any(entry.subtract or entry.divide for entry in entries):
            self._perceptron = perceptron_of(net, _FoldedNormalise)
        return self._runs(example)

    @torch.no_grad()
    def _agrees(self, wanted: Tensor, example: Tensor) -> bool:
        if bool(wanted.isnan().any()):
            raise Diverged("the network's logits in eval mode are NaN")
        return self._runs(example) and same_logits(self(example), wanted)

    @torch.no_grad()
    def _runs(self, example: Tensor) -> bool:
        try:
            self(example)
        except (RuntimeError, TypeError, ValueError):
            return False
        return True


def _needs_autocast(model: nn.Module) -> bool:
    """Return whether there are weights of a kind that the frozen model does not cast itself."""
    known = (nn.Conv2d, nn.Linear, *BATCH_NORMS)
    return any(len(list(m.parameters(recurse=False))) for m in model.modules() if not isinstance(m, known))


class _FoldedNormalise(nn.Module):
    """What is left of the normalisation beside the part that is folded into the layer `reader`, and the cast.

    Without a reader nothing is folded. Otherwise the division is, and the subtraction too unless the layer pads:
    zeros around pixels less their mean stand for the mean image, around bare pixels for black.
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
            # The factor of the reader's weights, and the mean image as each of its outputs sees it.
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
    """A folded convolution or linear layer, and the network's modules that it stands for."""

    folded: nn.Conv2d | nn.Linear
    source: nn.Conv2d | nn.Linear
    batch_norm: nn.BatchNorm1d | nn.BatchNorm2d | None
    entry: _FoldedNormalise | None

    def refresh(self) -> None:
        weight, bias = self.source.weight, self.source.bias
        if (bn := self.batch_norm) is not None:
            assert bn.running_mean is not None
            assert bn.running_var is not None
            # Not torch.nn.utils.fusion: its biases round differently, and a refresh takes a quarter longer.
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
        self.folded.weight.copy_(weight)
        if bias is not None:
            assert self.folded.bias is not None
            self.folded.bias.copy_(bias)


def _fold(net: fx.GraphModule, model: nn.Module) -> list[_Layer]:
    """Fold batch norms and the normalisation of a traced network in place; return its layers."""
    graph = Graph(net)
    sources = dict(model.named_modules())
    layers: dict[str, _Layer] = {}
    for node in list(net.graph.nodes):
        module, name = graph.module(node), str(node.target)
        if not isinstance(module, (nn.Conv2d, nn.Linear)) or name in layers:
            continue
        if "weight" not in module._parameters:  # It is computed from others, which are copied as they are.
            continue
        bn, reads = graph.batch_norm_after(node), _normalise_before(graph, node)
        batch_norm = sources[str(bn.target)] if bn else None
        normalise = sources[str(reads.target)] if reads else None
        assert batch_norm is None or isinstance(batch_norm, BATCH_NORMS)
        entry = None
        if reads:
            assert isinstance(normalise, Normalise)
            entry = _FoldedNormalise(normalise, module)
            net.set_submodule(str(reads.target), entry)
        folded = copy.deepcopy(module)
        if folded.bias is None and (bn or (entry and not entry.subtract)):
            folded.bias = nn.Parameter(folded.weight.new_zeros(len(folded.weight)), requires_grad=False)
        net.set_submodule(name, folded)
        source = sources[name]
        assert isinstance(source, (nn.Conv2d, nn.Linear))
        layers[name] = _Layer(folded, source, batch_norm, entry)
        if bn:
            bn.replace_all_uses_with(node)
            net.graph.erase_node(bn)
    for name, module in list(net.named_modules()):
        if isinstance(module, Normalise):
            net.set_submodule(name, _FoldedNormalise(module, None))
    net.delete_all_unused_submodules()
    net.recompile()
    return list(layers.values())


def _normalise_before(graph: Graph, node: fx.Node) -> fx.Node | None:
    """Return the normalisation that only this layer reads; a linear layer may read it through a flattening."""
    if not node.args:  # Called by keyword.
        return None
    layer, before = graph.module(node), node.args[0]
    if isinstance(layer, nn.Linear):
        if not isinstance(graph.module(before), nn.Flatten) or not graph.read_once(before):
            return None
        assert isinstance(before, fx.Node)
        before = before.args[0]
    elif not isinstance(layer, nn.Conv2d) or layer.groups != 1 or isinstance(layer.padding, str):
        return None
    if not isinstance(graph.module(before), Normalise) or not graph.read_once(before):
        return None
    assert isinstance(before, fx.Node)
    return before if graph.called_once(node) else None
