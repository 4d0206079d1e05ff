"""Pruning whole filters: which of them stay, and all that dies with one that does not."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainables.core.amounts import amount
from trainables.core.errors import SpecError
from trainables.pruning import Group, Scope
from trainables.pruning.topk import top_k
from trainables.store.state import State, Tensors

if TYPE_CHECKING:
    from trainables.models.graph.channels import Wiring

GROUPS: dict[Group, Callable[[Tensor], Tensor]] = {
    "mean": lambda scores: scores.mean(dim=1),
    "sum": lambda scores: scores.sum(dim=1),
    "norm": lambda scores: scores.norm(dim=1),
}
"""How a filter's score follows from those of its weights, (filters, weights of one) to (filters,)."""


def keep_filters(
    state: State,
    scores: Mapping[str, Tensor],
    keep: int,
    scope: Scope,
    group: Group,
    wiring: Wiring | None,
    densities: Mapping[str, float] | None = None,
    floor: int | float = 0,
) -> Tensors:
    """Return masks that keep the filters of highest score, and at most `keep` weights.

    Filters of the layers in `scores` are cut, lowest first, until at most `keep` weights live; fewer may live, by less
    than the weights of the last filter cut. The best `floor` filters of each layer stay, at least one; a floor below 1
    is a share of the layer's. With scope `layerwise`
    a filter's rank is its place within its own layer; with `densities` the shares of their filters that layers keep are
    in the proportion of those. A cut filter takes with it its bias, its batch norm's scale and
    shift, and the weights that read nothing but dead channels, as far as `wiring` knows them; the masks hold all
    of them. Ties go to the lower index.

    Raises:
        SpecError: those filters hold more weights than that.
    """
    plan = _Plan(state, wiring)
    least = {name: max(1, amount(floor, len(score))) for name, score in scores.items()}
    ranks = {
        name: _keys(score, state.masks[name], scope, group, densities[name] if densities else None, least[name])
        for name, score in scores.items()
    }
    flat = torch.cat(list(ranks.values())) if ranks else torch.empty(0)
    sizes = [len(rank) for rank in ranks.values()]

    def after(cut: int) -> dict[str, Tensor]:
        return dict(zip(ranks, torch.split(top_k(flat, len(flat) - cut), sizes), strict=True))

    most = len(flat) - sum(min(least[name], size) for name, size in zip(ranks, sizes, strict=True))
    if (left := plan.count(after(most))) > keep:
        held = "one filter per layer holds" if floor in (0, 1) else f"a floor of {floor:g} filters per layer holds"
        raise SpecError(f"{held} {left} weights, and {keep} are to be kept")
    return plan.masks(after(bisect_left(range(most), True, key=lambda cut: plan.count(after(cut)) <= keep)))


def _keys(
    scores: Tensor, mask: Tensor, scope: Scope, group: Group, density: float | None = None, least: int = 1
) -> Tensor:
    """Return what a layer's filters are ranked by.

    Shapes: scores and mask (filters, ...), the result (filters,) in double precision.
    """
    alive = mask.flatten(1).any(dim=1)
    return keys(GROUPS[group](torch.where(mask, scores.double(), 0.0).flatten(1)), alive, scope, density, least)


def keys(scores: Tensor, alive: Tensor, scope: Scope, density: float | None = None, least: int = 1) -> Tensor:
    """Return what units are ranked by where some are dead: the `least` best have infinity, dead ones minus that.

    With scope `layerwise` those are places among the units, and with a `density` what its scaling leaves of them.

    Shapes: scores, alive and the result (units,); double precision.
    """
    found = torch.where(alive, scores, -torch.inf)
    if scope == "layerwise":
        places = found.sort(descending=True, stable=True).indices
        ranks = torch.empty_like(found)
        if density is None:
            ranks[places] = torch.arange(len(found), 0, -1, dtype=found.dtype, device=found.device) / len(found)
        else:
            # The filter of rank r stays where all densities are scaled by r / (density * filters) or more.
            ordered = torch.arange(1, len(found) + 1, dtype=found.dtype, device=found.device)
            ranks[places] = density * len(found) / ordered
        found = torch.where(alive, ranks, -torch.inf)
    return torch.where(top_k(found, least), torch.inf, found)


class _Plan:
    """A state's masks, and what becomes of them where filters die."""

    def __init__(self, state: State, wiring: Wiring | None) -> None:
        self._state, self._wiring = state, wiring
        self._names = state.prunable()

    def count(self, kept: Mapping[str, Tensor]) -> int:
        """Count the living weights that would be left with these filters."""
        masks = self._matrices(kept)
        return sum(int(masks[name].sum()) for name in self._names)

    def masks(self, kept: Mapping[str, Tensor]) -> Tensors:
        """Return the masks of weights, and of the vectors that belong to dead filters."""
        outputs = self._outputs(kept)
        vectors: Tensors = {}
        for name, live in outputs.items():
            if not bool(live.all()):
                vectors |= dict.fromkeys(self._vectors(name), live)
        return {**self._state.masks, **self._matrices(kept), **vectors}

    def _outputs(self, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: live & self._state.masks[name].flatten(1).any(dim=1) for name, live in kept.items()}

    def _matrices(self, kept: Mapping[str, Tensor]) -> Tensors:
        outputs = self._outputs(kept)
        everywhere = {name: outputs.get(name, _all(self._state.masks[name])) for name in self._names}
        inputs = self._wiring.inputs(everywhere) if self._wiring is not None else {}
        found: Tensors = {}
        for name in self._names:
            mask = self._state.masks[name]
            rest = [1] * (mask.dim() - 2)
            found[name] = mask & everywhere[name].view(-1, 1, *rest)
            if name in inputs:
                found[name] = found[name] & inputs[name].view(1, -1, *rest)
        return found

    def _vectors(self, name: str) -> list[str]:
        """Return the names of the parameters with one entry per filter of a layer."""
        norm = self._wiring.norms.get(name) if self._wiring is not None else None
        candidates = [name.removesuffix("weight") + "bias", *([f"{norm}.weight", f"{norm}.bias"] if norm else [])]
        return [vector for vector in candidates if vector in self._state.params]


def _all(mask: Tensor) -> Tensor:
    return mask.new_ones(len(mask))
