"""Which channels of a network can only go together, by the package torch-pruning: through additions, concatenations and
grouped convolutions alike.

It reads the network's autograd graph, so no forward has to be traced symbolically.
Source: Fang et al. 2023, arXiv:2301.12900.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainables.core.errors import SpecError
from trainables.models.graph.logits import same_logits
from trainables.models.graph.tracing import BATCH_NORMS
from trainables.store.state import duplicate

PACKAGE = "torch-pruning"


@dataclass(frozen=True)
class Part:
    """Entries of one parameter that go with units: `entries` along the outputs or inputs, and the `units` they are of.

    Shapes: entries and units (entries,), whole numbers.
    """

    parameter: str
    outputs: bool
    entries: Tensor
    units: Tensor


@dataclass(frozen=True)
class Group:
    """Channels that go together: `size` units, each with entries in all `parts`; `root` is the first one's layer."""

    root: str
    size: int
    parts: tuple[Part, ...]


class Coupling:
    """The groups of channels of a network that can be cut, without those that reach its outputs.

    Groups of other layers than convolutions (not transposed), linear layers and batch norms are left out: what is
    normalised over channels, as by a layer norm, is other without some of them.
    """

    def __init__(self, model: nn.Module, shape: tuple[int, int, int]) -> None:
        """Read a copy of `model` with images (N, *shape).

        Raises:
            SpecError: the package is missing, or does not understand the network.
        """
        self._shape = shape
        self._net = duplicate(model).cpu().eval().requires_grad_(True)
        self._graph = _graph(self._net, shape)
        self._last = _returned(self._net, shape)
        self._names = {module: name for name, module in self._net.named_modules()}
        self._channels = {name: p.shape for name, p in self._net.named_parameters()}
        found = [group for group in map(self._group, self._graph.get_all_groups()) if group is not None]
        places = {name: place for place, name in enumerate(self._channels)}
        # In the network's order, which decides between units of one rank.
        self.groups = tuple(sorted(found, key=lambda group: min(places[part.parameter] for part in group.parts)))

    def masks(self, alive: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return which entries of each parameter live where these units do, by the group's root.

        Parameters without a part in a group are left out.

        Shapes: alive (units,) boolean; like, and the result, as the parameters.
        """
        found: dict[str, Tensor] = {}
        for group in self.groups:
            for part in group.parts:
                dead = part.entries[~alive[group.root].cpu()[part.units]]
                mask = found.setdefault(part.parameter, torch.ones_like(like[part.parameter], dtype=torch.bool))
                if part.outputs:
                    mask[dead.to(mask.device)] = False
                else:
                    self._silence(part.parameter, mask, dead)
        return found

    def living(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return which units have an entry that is not 0 in some part, by the group's root.

        Shapes: params as the network's parameters, on the CPU; the result (units,) boolean.
        """
        found: dict[str, Tensor] = {}
        for group in self.groups:
            alive = found.setdefault(group.root, torch.zeros(group.size, dtype=torch.bool))
            for part in group.parts:
                p = params[part.parameter] != 0
                if part.outputs:
                    used = p.flatten(1).any(dim=1) if p.dim() > 1 else p
                else:
                    used = self._read(part.parameter, p)
                alive[part.units[used[part.entries]]] = True
        return found

    def without(self, alive: Mapping[str, Tensor]) -> nn.Module:
        """Return the network without the units that do not live, in eval mode on the CPU; it can be done once.

        Raises:
            SpecError: the package cannot do it.
        """
        try:
            for group in self.groups:
                layer = self._layer(group.root)
                first = group.parts[0]
                dead = first.entries[~alive[group.root].cpu()[first.units]].tolist()
                if dead:
                    prune = self._graph.get_pruner_of_module(layer).prune_out_channels
                    self._graph.get_pruning_group(layer, prune, dead).prune()
        except Exception as error:
            raise _not_understood(error) from error
        return self._net.requires_grad_(False)

    def check(self, model: nn.Module, masks: Mapping[str, Tensor], alive: Mapping[str, Tensor]) -> None:
        """Refuse a network of which the masked and the smaller form have other logits.

        Raises:
            SpecError: they do, or the smaller form cannot be made.
        """
        whole = duplicate(model).cpu().eval()
        with torch.no_grad():
            for name, p in whole.named_parameters():
                if name in masks:
                    p.mul_(masks[name].cpu())
        small = Coupling(whole, self._shape).without(alive)
        images = torch.rand((2, *self._shape), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            wanted = whole(images)
            try:
                found = small(images)
            except Exception as error:  # Layers no longer fit together.
                raise _not_understood(error) from error
        if not same_logits(found, wanted):
            raise _not_understood(None)

    def _layer(self, weight: str) -> nn.Module:
        return self._net.get_submodule(weight.rpartition(".")[0])

    def _groups(self, name: str) -> int:
        layer = self._layer(name)
        return layer.groups if isinstance(layer, nn.Conv2d) else 1

    def _read(self, name: str, nonzero: Tensor) -> Tensor:
        """Return which inputs of a layer are read by a weight that is not 0: (inputs,)."""
        if nonzero.dim() == 2:
            return nonzero.any(dim=0)
        groups = self._groups(name)
        by_group = nonzero.reshape(groups, len(nonzero) // groups, nonzero.shape[1], -1)
        return by_group.any(dim=3).any(dim=1).flatten()

    def _silence(self, name: str, mask: Tensor, dead: Tensor) -> None:
        """Set the weights that read dead inputs; those of a grouped convolution are of its own group's outputs."""
        groups = self._groups(name)
        width, rows = mask.shape[1], mask.shape[0] // groups
        if groups == 1:
            mask[:, dead.to(mask.device)] = False
            return
        for channel in dead.tolist():
            group, column = divmod(channel, width)
            mask[group * rows : (group + 1) * rows, column] = False

    def _group(self, found: Any) -> Group | None:
        """Return a group of the package's, None where it cannot be cut."""
        layer = found[0].dep.target.module
        size = len(found[0].idxs)
        shared = max((_channel_groups(item.dep.target.module) for item in found), default=1)
        if size % shared or not isinstance(layer, (nn.Conv2d, nn.Linear)):
            return None
        units = size // shared
        parts: list[Part] = []
        for item in found:
            module = item.dep.target.module
            outputs = self._graph.is_out_channel_pruning_fn(item.dep.handler)
            if isinstance(module, nn.Parameter) or not _understood(module) or (outputs and module in self._last):
                return None
            if type(module).__module__.startswith("torch_pruning"):
                if "Output" in type(module).__name__:
                    return None
                continue
            if not isinstance(module, (nn.Linear, nn.Conv2d, *BATCH_NORMS)):
                continue
            entries, of = torch.tensor(item.idxs), torch.tensor(item.root_idxs) % units
            if len(entries) != len(of) or int(entries.max()) >= _extent(module, outputs):
                raise _not_understood(None)
            depthwise = isinstance(module, nn.Conv2d) and _depthwise(module)
            for attribute in ("weight", "bias"):
                name = f"{self._names[module]}.{attribute}".lstrip(".")
                if name in self._channels and (attribute == "weight" or outputs or isinstance(module, BATCH_NORMS)):
                    parts.append(Part(name, outputs or depthwise or isinstance(module, BATCH_NORMS), entries, of))
        return Group(parts[0].parameter, units, tuple(parts))


def _graph(net: nn.Module, shape: tuple[int, int, int]) -> Any:
    try:
        import torch_pruning
    except ImportError as error:
        raise SpecError(
            f"the backend {PACKAGE} needs the package of this name: pip install 'robustsearch[structured]'"
        ) from error
    try:
        graph = torch_pruning.DependencyGraph()
        with torch.enable_grad():
            return graph.build_dependency(net, torch.zeros((2, *shape)), verbose=False)
    except Exception as error:
        raise _not_understood(error) from error


def _returned(net: nn.Module, shape: tuple[int, int, int]) -> set[nn.Module]:
    """Return the modules whose result is that of the network."""
    results: dict[nn.Module, Any] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        results[module] = output

    hooks = [module.register_forward_hook(note) for module in net.modules()]
    try:
        with torch.no_grad():
            net(torch.zeros((2, *shape)))
    finally:
        for hook in hooks:
            hook.remove()
    return {module for module, result in results.items() if result is results[net]}


def _not_understood(error: Exception | None) -> SpecError:
    reason = f": {type(error).__name__}: {error}" if error is not None else ""
    return SpecError(f"{PACKAGE} does not understand how this network's channels depend on each other{reason}")


def _understood(module: nn.Module) -> bool:
    """Return whether channels of a module can go without changing the others: it has no parameters, or is known."""
    if isinstance(module, (nn.Linear, *BATCH_NORMS)):
        return True
    if isinstance(module, nn.Conv2d):
        return not module.transposed
    return not list(module.parameters()) and not isinstance(module, (nn.LayerNorm, nn.GroupNorm))


def _extent(module: nn.Module, outputs: bool) -> int:
    """Return how many channels a layer has on one side."""
    if isinstance(module, nn.Linear):
        return module.out_features if outputs else module.in_features
    if isinstance(module, nn.Conv2d):
        return module.out_channels if outputs else module.in_channels
    assert isinstance(module, BATCH_NORMS)
    return module.num_features


def _depthwise(module: nn.Conv2d) -> bool:
    return module.groups == module.out_channels == module.in_channels > 1


def _channel_groups(module: object) -> int:
    return module.groups if isinstance(module, nn.Conv2d) and not _depthwise(module) else 1
