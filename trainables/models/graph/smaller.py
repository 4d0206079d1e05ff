"""The network that is left where filters are pruned whole, to be trained and measured in place of the full one.

What is left out are entries that masks hold at 0 and that change no logit, so a step of the smaller network is one of
the full network up to the rounding of shorter sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trainables.core.errors import SpecError
from trainables.models import macs
from trainables.models.graph.channels import Live, Wiring
from trainables.models.graph.logits import same_logits
from trainables.models.graph.shrinking import Shrinking, layers
from trainables.models.graph.tracing import BATCH_NORMS, trace
from trainables.models.isolation import isolated
from trainables.models.nets.spread import TrainedSpread
from trainables.store.state import State, Tensors, duplicate, named_buffers, named_tensors

_STATISTICS = {"running_mean": "cut_mean", "running_var": "cut_var"}
"""Statistics of a batch norm, and where a smaller one keeps those of the channels that it lacks."""

_IMAGES = 4


@dataclass(frozen=True)
class _Where:
    """Indices of the entries of a tensor that are left, and, along its first dimension, of those that are not."""

    left: tuple[Tensor, ...]
    cut: Tensor


class Smaller:
    """A network without the filters that masks prune whole, and the way of tensors between it and the full network.

    The tensors of `model`, the smaller network, have the names of the full network's. A batch norm without some of its
    channels moves their statistics (`cut_mean`, `cut_var`) as the full one does, which sees zeros there. `derived` are
    buffers that follow from the structure, and `share` is what is left of the multiply-accumulates of a forward pass.
    """

    def __init__(self, model: nn.Module, state: State, shape: tuple[int, int, int]) -> None:
        """Shrink a copy of `model`, for images (N, *shape); both arguments stay as they are.

        Raises:
            SpecError: says why the network must stay whole.
        """
        state = state.to("cpu").masked()
        full = state.into(duplicate(model).cpu())
        self._shapes = {name: t.shape for name, t in named_tensors(full).items()}
        wiring = _wiring(full, shape)
        shrinking = Shrinking(wiring, _alive(wiring, state), TrainedSpread)
        self.model = shrinking.net
        self._kept = {name: kept for name, kept in shrinking.kept.items() if not _everything(kept)}
        self._places: dict[tuple[str, torch.device], _Where] = {}
        if not self._kept:
            raise SpecError("no filter is pruned whole")
        for name in self._kept.keys() & state.masks.keys():
            if int(self.cut({name: state.masks[name]})[name].sum()) < int(state.masks[name].sum()):
                raise SpecError(f"{name} has weights that are not pruned and read pruned filters alone")
        own = named_tensors(self.model)
        if unused := sorted(self._shapes.keys() - own.keys()):
            raise SpecError(f"its forward does not use {unused[0]}")
        self._small_shapes = {name: t.shape for name, t in own.items()}
        self.derived = {name: t for name, t in own.items() if name not in self._shapes}
        for name, p in full.named_parameters():
            self.model.get_parameter(name).requires_grad_(p.requires_grad)
        self._keep_statistics(full)
        _check_logits(full, self.model, shape)
        self.share = macs.dense(macs.count(self.model, shape)) / macs.dense(macs.count(full, shape))

    def cut(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Return what the smaller network has of tensors of the full one.

        A name may have a prefix that ends in a colon; a tensor of another shape than the network's of this name stays.
        """
        found: Tensors = {}
        for path, tensor in tensors.items():
            prefix, colon, name = path.rpartition(":")
            kept = self._kept.get(name)
            if kept is None or tensor.shape != self._shapes[name]:
                found[path] = tensor
                continue
            where = self._where(name, tensor.device)
            found[path] = tensor[where.left]
            if (lacking := _lacking(name)) is not None:
                found[f"{prefix}{colon}{lacking}"] = tensor[where.cut]
        return found

    def whole(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Return tensors of the smaller network as those of the full one, with zeros where it was cut.

        What `cut` says of names and shapes holds here too. The result is differentiable in `tensors`.
        """
        known = (path for path in tensors if path.rpartition(":")[2] in self._shapes)
        return {path: self._whole(path, tensors) for path in known}

    def _whole(self, path: str, tensors: Mapping[str, Tensor]) -> Tensor:
        prefix, colon, name = path.rpartition(":")
        tensor, kept = tensors[path], self._kept.get(name)
        if kept is None or tensor.shape != self._small_shapes[name]:
            return tensor
        where = self._where(name, tensor.device)
        full = tensor.new_zeros(self._shapes[name])
        if (lacking := _lacking(name)) is not None:
            full[where.cut] = tensors[f"{prefix}{colon}{lacking}"]
        return full.index_put(where.left, tensor)

    def _where(self, name: str, device: torch.device) -> _Where:
        """Return the places of what is left of a tensor, which stay on the device: looking them up waits for a GPU."""
        if (found := self._places.get((name, device))) is None:
            outputs, inputs = (None if side is None else side.to(device) for side in self._kept[name])
            assert outputs is not None
            at, cut = outputs.nonzero()[:, 0], (~outputs).nonzero()[:, 0]
            left = (at,) if inputs is None else (at[:, None], inputs.nonzero()[:, 0])
            found = self._places[name, device] = _Where(left, cut)
        return found

    def cut_state(self, state: State) -> State:
        """Return the smaller network in a state of the full one, of the same masks."""
        params, buffers, masks = (self.cut(group) for group in (state.params, state.buffers, state.masks))
        return replace(state, params=params, buffers=buffers, masks=masks)

    def whole_state(self, state: State) -> State:
        """Return the full network in a state of the smaller one, with its tensors in their order."""
        params, buffers = (self._ordered(self.whole(group)) for group in (state.params, state.buffers))
        return replace(state, params=params, buffers=buffers, masks=self.whole(state.masks))

    def _ordered(self, tensors: Mapping[str, Tensor]) -> Tensors:
        return {name: tensors[name] for name in self._shapes if name in tensors}

    def _keep_statistics(self, full: nn.Module) -> None:
        buffers = dict(named_buffers(full))
        for name, (outputs, _) in self._kept.items():
            if (lacking := _lacking(name)) is None:
                continue
            path, _, buffer = lacking.rpartition(".")
            norm = self.model.get_submodule(path)
            if not hasattr(norm, buffer) and buffer == _STATISTICS["running_mean"]:
                norm.register_forward_hook(_see_zeros)
            norm.register_buffer(buffer, buffers[name][~outputs].clone())


def cuts_filters(state: State) -> bool:
    """Return whether masks prune whole filters with all that belongs to them, as structured pruning does."""
    weights = {name: mask.flatten(1).any(dim=1) for name, mask in state.masks.items() if mask.dim() > 1}
    bare = [live for name, live in weights.items() if f"{name.removesuffix('weight')}bias" not in state.params]
    return len(weights) < len(state.masks) or not all(bool(live.all()) for live in bare)


def _lacking(name: str) -> str | None:
    """Return the name of the statistics that a smaller batch norm keeps beside those of this name."""
    path, _, kind = name.rpartition(".")
    return f"{path}.{_STATISTICS[kind]}" if kind in _STATISTICS else None


@torch.no_grad()
def _see_zeros(norm: nn.Module, inputs: object, output: object) -> None:
    """Move the statistics of the channels that a smaller batch norm lacks, by zeros."""
    assert isinstance(norm, BATCH_NORMS)
    if not norm.training:
        return
    assert norm.num_batches_tracked is not None
    rate = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    for buffer in _STATISTICS.values():
        getattr(norm, buffer).mul_(1 - rate)


def _everything(kept: tuple[Tensor, Live]) -> bool:
    return all(side is None or bool(side.all()) for side in kept)


def _wiring(full: nn.Module, shape: tuple[int, int, int]) -> Wiring:
    """Return the wiring of a network that its trace computes in training as well.

    Raises:
        SpecError: there is none.
    """
    wiring = Wiring(full, shape)
    if wiring.net is None:
        raise SpecError("torch.fx cannot trace the network")
    if len(list(full.named_parameters())) != len(list(full.named_parameters(remove_duplicate=False))):
        raise SpecError("layers share their weights")
    in_training = trace(duplicate(full).train())
    if in_training is None or in_training.code != wiring.net.code:
        raise SpecError("the network's forward is another one in training")
    wiring.net.requires_grad_(False)
    return wiring


def _alive(wiring: Wiring, state: State) -> dict[str, Tensor]:
    """Return which outputs of each layer are not masked with all that belongs to them: at least one of each."""
    found: dict[str, Tensor] = {}
    for name in layers(wiring):
        live = state.masks[name].flatten(1).any(dim=1)
        norm = wiring.norms.get(name)
        vectors = [f"{name.removesuffix('weight')}bias", *([f"{norm}.weight", f"{norm}.bias"] if norm else [])]
        for vector in vectors:
            if vector in state.params:
                live = live | state.masks.get(vector, torch.ones_like(live))
        live[0] |= not bool(live.any())
        found[name] = live
    return found


def _check_logits(full: nn.Module, small: nn.Module, shape: tuple[int, int, int]) -> None:
    """Refuse a smaller network with other logits than the full one, in training or not.

    In double precision, so that no rounding decides.

    Raises:
        SpecError: its structure is not understood, or it is random.
    """
    images = torch.rand((_IMAGES, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for training in (False, True):
        try:
            wanted, found = (_logits(net, images, training) for net in (full, small))
        except Exception as error:  # The forward is perhaps a user's: it may raise anything.
            raise SpecError(f"the smaller network cannot be compared: {type(error).__name__}") from error
        if not same_logits(found, wanted):
            raise SpecError("the smaller network has other logits: it is random, or its structure is not understood")


def _logits(net: nn.Module, images: Tensor, training: bool) -> Tensor:
    with isolated(0), torch.no_grad():
        logits: Tensor = duplicate(net).double().train(training)(images)
    return logits
