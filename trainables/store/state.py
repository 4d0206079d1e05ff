"""The state of a network between two phases: dicts of tensors, never modules or pickles."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.core.errors import StageDamaged

Tensors = dict[str, Tensor]
_ORDER = "order"

FORCED = "forced"
"""The note of a training towards a budget: which share of what the network used was cut although it was in use."""


def weight_names(model: nn.Module) -> dict[nn.Module, dict[str, str]]:
    """Return the names of the weights of each layer that has some to prune, by attribute, in order of definition.

    Those are convolution and linear layers, attention (its projections of query, key and value; that of its output is a
    linear layer), and recurrent layers and cells. Layers that share a weight have one name for it. A weight that is
    computed from other parameters (weight and spectral norm) has none.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    found: dict[nn.Module, dict[str, str]] = {}
    for layer in model.modules():
        own = {attribute: layer._parameters.get(attribute) for attribute in _weight_attributes(layer)}
        if named := {attribute: names[id(weight)] for attribute, weight in own.items() if weight is not None}:
            found[layer] = named
    return found


def _weight_attributes(layer: nn.Module) -> tuple[str, ...]:
    if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
        return ("weight",)
    if isinstance(layer, nn.MultiheadAttention):
        return ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    if isinstance(layer, (nn.RNNBase, nn.RNNCellBase)):
        return tuple(name for name in layer._parameters if name.startswith("weight"))
    return ()


def prunable(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the prunable weights, those of `weight_names`, in order of definition."""
    return tuple(dict.fromkeys(name for named in weight_names(model).values() for name in named.values()))


def scales(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the scales of batch norms, in order of definition."""
    names = {id(p): name for name, p in model.named_parameters()}
    norms = (module for module in model.modules() if isinstance(module, _BatchNorm) and module.affine)
    own = (norm._parameters.get("weight") for norm in norms)
    return tuple(dict.fromkeys(names[id(scale)] for scale in own if scale is not None))


def duplicate(model: nn.Module, shared: Mapping[int, Tensor] | None = None) -> nn.Module:
    """Copy a module; `shared` maps ids of its tensors to those that the copy has in their place.

    A module may hold results of its last pass (a weight of the old weight norm), which torch refuses to copy while they
    have a gradient's history: the copy has their values alone.
    """
    memo: dict[int, Any] = dict(shared or {})
    for module in model.modules():
        for value in (*vars(module).values(), *module._buffers.values()):
            if isinstance(value, Tensor) and not value.is_leaf:
                memo.setdefault(id(value), value.detach().clone())
    return copy.deepcopy(model, memo)


def named_tensors(model: nn.Module) -> Tensors:
    """Return all parameters and buffers, each tensor under its first name; buffers that no file needs, too."""
    return {**dict(model.named_parameters()), **dict(named_buffers(model))}


def named_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Return the buffers with their names; a parameter that is a buffer as well is a parameter."""
    parameters = {id(p) for p in model.parameters()}
    return ((name, b) for name, b in model.named_buffers() if id(b) not in parameters)


def temporary(model: nn.Module) -> set[str]:
    """Return the names of the buffers that are not persistent."""
    modules = model.named_modules()
    return {f"{prefix}.{name}".lstrip(".") for prefix, m in modules for name in m._non_persistent_buffers_set}


@torch.no_grad()
def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Copy tensors into those of a module, by the names of `named_tensors`, and return it.

    A tensor that has a second name may also come under that one. Only a buffer that is not persistent may be left out.
    This is not `load_state_dict`, which knows neither such buffers nor tied weights under one name.

    Raises:
        ValueError: names or shapes are others.
    """
    own = named_tensors(model)
    first = {id(t): name for name, t in own.items()}
    everywhere: Tensors = dict(model.named_parameters(remove_duplicate=False))
    everywhere |= dict(model.named_buffers(remove_duplicate=False))
    if unknown := sorted(tensors.keys() - everywhere.keys()):
        raise ValueError(f"the network has no tensor {unknown[0]}")
    given = {first[id(everywhere[name])]: t for name, t in tensors.items()}
    if absent := sorted(own.keys() - given.keys() - temporary(model)):
        raise ValueError(f"the tensor {absent[0]} of the network is missing")
    for name, t in given.items():
        if own[name].shape != t.shape:
            raise ValueError(f"{name} is shaped {tuple(own[name].shape)} in the network, and {tuple(t.shape)} here")
        own[name].copy_(t)
    return model


@dataclass(frozen=True)
class State:
    """A network between two phases, on one device.

    `masks` has a boolean tensor for every prunable weight, shaped like it, False where it is pruned; a pruned weight is
    exactly 0. Where whole filters are pruned, their vectors have masks too (biases, a batch norm's scale and shift),
    which are applied like the others but not counted.
    `extras` are further tensors of the training (`trainables.reparametrisations`), for example coefficients of noise.
    Parameters are always the effective weights, which can be measured without them.
    `history` is what the last training recorded of itself (`trainables.engine.validation`); no later phase keeps it,
    and no hash of weights covers it. `notes` are numbers that measurements of this and of later phases flag, such as
    `FORCED`; a dense network has none.
    """

    params: Tensors
    buffers: Tensors
    masks: Tensors = field(default_factory=dict)
    extras: Tensors = field(default_factory=dict)
    history: Tensors = field(default_factory=dict)
    notes: Tensors = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module) -> State:
        """Copy a module's tensors; nothing is pruned."""
        params = {name: p.detach().clone() for name, p in model.named_parameters()}
        buffers = {name: b.detach().clone() for name, b in named_buffers(model)}
        masks = {name: torch.ones_like(params[name], dtype=torch.bool) for name in prunable(model)}
        return cls(params, buffers, masks)

    def into(self, model: nn.Module) -> nn.Module:
        """Copy the tensors into a module of the same structure and return it."""
        return fill(model, {**self.params, **self.buffers})

    def masked(self) -> State:
        """Return the state with every pruned weight set to 0."""
        masked = {name: torch.where(mask, self.params[name], 0.0) for name, mask in self.masks.items()}
        return replace(self, params={**self.params, **masked})

    def to(self, device: torch.device | str) -> State:
        """Return the state on another device."""
        groups = (self.params, self.buffers, self.masks, self.extras, self.history, self.notes)
        return State(*({name: t.to(device) for name, t in group.items()} for group in groups))

    def prunable(self) -> tuple[str, ...]:
        """Return the names of the prunable weights, in order of definition."""
        return tuple(name for name, mask in self.masks.items() if mask.dim() > 1)

    def norms(self) -> frozenset[str]:
        """Return the names of the scales and shifts of batch norms, as far as those keep statistics."""
        prefixes = [name.removesuffix("running_mean") for name in self.buffers if name.endswith(".running_mean")]
        return frozenset(f"{prefix}{kind}" for prefix in prefixes for kind in ("weight", "bias")) & self.params.keys()

    def nonzero(self) -> int:
        """Count the prunable weights that are not 0, from the weights themselves."""
        return sum(int(torch.count_nonzero(self.params[name])) for name in self.prunable())

    def size(self) -> int:
        """Count the prunable weights."""
        return sum(self.masks[name].numel() for name in self.prunable())

    def parameters(self) -> int:
        """Count all parameters, prunable or not."""
        return sum(p.numel() for p in self.params.values())

    def mask_sparsity(self) -> float:
        """Return the share of the prunable weights that masks prune; 0 for a network that has no such weights."""
        size = self.size()
        return 1 - sum(int(self.masks[name].sum()) for name in self.prunable()) / size if size else 0.0

    def weights_sha256(self) -> str:
        """Hash names, shapes and values of parameters, buffers and extras, whatever their device or memory format."""
        digest = hashlib.sha256()
        for name, tensor in sorted({**self.params, **self.buffers, **self.extras}.items()):
            dense = tensor.detach().cpu().contiguous()
            digest.update(f"{name}:{dense.dtype}:{tuple(dense.shape)}".encode())
            digest.update(dense.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def pack(groups: Mapping[str, Tensors]) -> bytes:
    """Write named groups of tensors as one safetensors file, `group/name` each, in their order.

    The format does not keep the order, which says what layer is first, and whose scores are drawn first.
    """
    flat: Tensors = {}
    seen: set[int] = set()
    for group, tensors in groups.items():
        for name, tensor in tensors.items():
            dense = tensor.detach().cpu().contiguous()
            # The format refuses tensors that share memory, as masks of two snapshots do.
            flat[f"{group}/{name}"] = dense.clone() if dense.data_ptr() in seen else dense
            seen.add(dense.data_ptr())
    return save(flat, {_ORDER: json.dumps(list(flat))})


def unpack(content: bytes) -> dict[str, Tensors]:
    """Read what `pack` wrote.

    Raises:
        StageDamaged: it is something else, or truncated.
    """
    groups: dict[str, Tensors] = {}
    try:
        tensors = load(content)
        names = _order(content) or list(tensors)
    except (SafetensorError, ValueError, RecursionError, AttributeError, TypeError) as error:
        raise StageDamaged(f"no safetensors file of a network ({type(error).__name__})") from None
    named = [name for name in names if isinstance(name, str) and "/" in name]
    if len(named) != len(names) or sorted(named) != sorted(tensors):
        raise StageDamaged("its tensors are not those of a network")
    for path in named:
        group, name = path.split("/", 1)
        groups.setdefault(group, {})[name] = tensors[path]
    return groups


def _order(content: bytes) -> list[str] | None:
    """Read the names in the order they were written from the header; None in a file without an order."""
    size = int.from_bytes(content[:8], "little")
    written = json.loads(content[8 : 8 + size]).get("__metadata__", {}).get(_ORDER)
    return None if written is None else list(json.loads(written))
