"""A network without its dead units: what torch-pruning knows to go together, through concatenations and groups too.

A unit is dead if all its weights, biases and batch norms are 0, and so are all weights that read it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from trainables.core.errors import SpecError
from trainables.models.graph.coupling import Coupling


def living(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """Return which units of each group of coupled channels live, by the group's first weight: at least one of each.

    Shapes: images (N, *shape); the result (units of the group,), boolean.

    Raises:
        SpecError: torch-pruning is not installed, or does not understand the network.
    """
    found = Coupling(model, shape).living({name: p.detach().cpu() for name, p in model.named_parameters()})
    for alive in found.values():
        alive[0] |= not bool(alive.any())
    return found


def without(model: nn.Module, alive: Mapping[str, Tensor], shape: tuple[int, int, int]) -> nn.Module:
    """Return a network without the units that are not `alive`, as `living` returns them, in eval mode on the CPU.

    Raises:
        SpecError: torch-pruning is not installed, does not understand the network, or has other groups.
    """
    coupling = Coupling(model, shape)
    if {root: len(units) for root, units in alive.items()} != {group.root: group.size for group in coupling.groups}:
        raise SpecError("the smaller layers are not those of the network; another version of torch-pruning made them")
    return coupling.without(alive)
