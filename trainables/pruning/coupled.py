"""Pruning whole filters together with all that they are added to, concatenated or grouped with."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainables.core.errors import SpecError
from trainables.models.graph.coupling import Coupling, Group
from trainables.pruning import Group as Grouping
from trainables.pruning import Scope
from trainables.pruning.filters import GROUPS, keys
from trainables.pruning.topk import top_k
from trainables.store.state import State, Tensors


def keep_coupled(
    state: State,
    scores: Mapping[str, Tensor],
    keep: int,
    scope: Scope,
    group: Grouping,
    coupling: Coupling,
    model: nn.Module,
) -> Tensors:
    """Return masks that keep the units of highest score, and at most `keep` weights.

    A unit is what can only go together: filters of several layers, with their biases and batch norms and all weights
    that read them. Its score is the mean of its filters' scores; units with a filter of a layer that is not in `scores`
    stay. Units are cut, lowest first, until at most `keep` weights live; the best unit of each group stays. With scope
    `layerwise` a unit's rank is its place within its own group. `model` is the network, whose tensors are left alone.

    Raises:
        SpecError: one unit per group holds more weights than that, or the coupling is not that of the network.
    """
    open_groups = [found for found in coupling.groups if _filters(found, state) <= scores.keys()]
    ranks = {found.root: _keys(found, state, scores, scope, group) for found in open_groups}
    flat = torch.cat(list(ranks.values())) if ranks else torch.empty(0)
    sizes = [len(rank) for rank in ranks.values()]
    everything = {found.root: torch.ones(found.size, dtype=torch.bool) for found in coupling.groups}

    def after(cut: int) -> dict[str, Tensor]:
        living = torch.split(top_k(flat, len(flat) - cut), sizes)
        return everything | dict(zip(ranks, living, strict=True))

    def masks(alive: Mapping[str, Tensor]) -> Tensors:
        found = coupling.masks(alive, state.params)
        cut = {name: mask & state.masks.get(name, True) for name, mask in found.items()}
        # A vector has a mask where something of it is cut.
        return {**state.masks, **{n: m for n, m in cut.items() if n in state.masks or not bool(m.all())}}

    def count(cut: int) -> int:
        found = masks(after(cut))
        return sum(int(found[name].sum()) for name in state.prunable())

    most = len(flat) - len(ranks)
    if (left := count(most)) > keep:
        raise SpecError(
            f"one unit of coupled filters per group holds {left} weights, and {keep} are to be kept: lower the sparsity"
        )
    alive = after(bisect_left(range(most), True, key=lambda cut: count(cut) <= keep))
    found = masks(alive)
    coupling.check(model, found, alive)
    return found


def _filters(found: Group, state: State) -> set[str]:
    """Return the weights of a group whose filters go with its units."""
    return {part.parameter for part in found.parts if part.outputs and part.parameter in state.prunable()}


def _keys(found: Group, state: State, scores: Mapping[str, Tensor], scope: Scope, group: Grouping) -> Tensor:
    """Return what the units of a group are ranked by, on the CPU in double precision, the best one's infinite."""
    total, filters = torch.zeros(found.size, dtype=torch.float64), torch.zeros(found.size, dtype=torch.float64)
    alive = torch.zeros(found.size, dtype=torch.bool)
    for part in found.parts:
        if not part.outputs or part.parameter not in scores:
            continue
        mask = state.masks[part.parameter].cpu()
        score = scores[part.parameter].cpu().double()
        each = GROUPS[group](torch.where(mask, score, 0.0).flatten(1))[part.entries]
        total.index_add_(0, part.units, each)
        filters.index_add_(0, part.units, torch.ones_like(each))
        alive[part.units] |= mask.flatten(1).any(dim=1)[part.entries]
    return keys(total / filters.clamp_min(1), alive, scope)
