"""The cut: from scores to masks with an exact budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from trainables.errors import SpecError
from trainables.phases import Prune
from trainables.pruning.base import Scene
from trainables.pruning.network import Network
from trainables.state import State, Tensors

View = Callable[[State, torch.Generator], Network]
"""How a pruner that looks at more than weights sees the network in a state."""


def prune(phase: Prune, state: State, generator: torch.Generator, view: View | None = None) -> State:
    """Cut a network to the phase's sparsity, in as many cuts as the pruner asks for; what was cut before stays cut.

    Exactly `size - round(sparsity * size)` weights live afterwards, or all that lived before if
    those are fewer.

    Raises:
        SpecError: the layers that may be pruned have too few weights for the sparsity.
        ValueError: the pruner returned scores that are not finite or not shaped like the weights, or asks to see the
            network and there is no `view`.
    """
    now = 1 - sum(int(mask.sum()) for mask in state.masks.values()) / state.size()
    for sparsity in phase.pruning.pruner.sparsities(now, phase.sparsity):
        state = _prune(phase.model_copy(update={"sparsity": sparsity}), state, generator, view)
    return state


def _prune(phase: Prune, state: State, generator: torch.Generator, view: View | None) -> State:
    names = list(state.masks)
    settings = phase.pruning
    spared = set(names[:1] if not settings.prune_first else ()) | set(names[-1:] if not settings.prune_last else ())
    open_names = [name for name in names if name not in spared]
    keep = state.size() - round(phase.sparsity * state.size())
    keep_open = keep - sum(int(state.masks[name].sum()) for name in spared)
    if keep_open < 0 or not open_names:
        raise SpecError(
            f"a sparsity of {phase.sparsity:g} leaves {keep} of {state.size()} weights, fewer than the layers that "
            f"are not pruned hold ({', '.join(sorted(spared))}); lower it or prune those layers too"
        )
    weights = {name: state.params[name] for name in open_names}
    masks = {name: state.masks[name] for name in open_names}
    network = None if view is None else view(state, generator)
    scores = settings.pruner.scores(Scene(weights, masks, generator, network))
    _check_scores(scores, masks)
    if settings.scope == "global":
        kept = _cut_together(scores, masks, keep_open)
    else:
        quotas = share(keep_open, [mask.numel() for mask in masks.values()], [int(m.sum()) for m in masks.values()])
        kept = {}
        for name, quota in zip(open_names, quotas, strict=True):
            kept |= _cut_together({name: scores[name]}, {name: masks[name]}, quota)
    return State(state.params, state.buffers, {name: kept.get(name, state.masks[name]) for name in names}).masked()


def _check_scores(scores: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    if scores.keys() != masks.keys():
        raise ValueError(f"the pruner scored {sorted(scores)} where {sorted(masks)} were asked for")
    for name, score in scores.items():
        if score.shape != masks[name].shape or not bool(torch.isfinite(score).all()):
            raise ValueError(f"the pruner's scores for {name} are not finite or not shaped {tuple(masks[name].shape)}")


def _cut_together(scores: Mapping[str, Tensor], masks: Mapping[str, Tensor], keep: int) -> Tensors:
    """Keep the `keep` living weights of highest score; among equals those of lower index."""
    flat = torch.cat([s.reshape(-1).double() for s in scores.values()])
    living = torch.cat([masks[name].reshape(-1) for name in scores])
    order = torch.where(living, flat, -torch.inf).sort(descending=True, stable=True).indices
    chosen = torch.zeros_like(living)
    chosen[order[: min(keep, int(living.sum()))]] = True
    pieces = torch.split(chosen, [s.numel() for s in scores.values()])
    return {name: piece.view(masks[name].shape).clone() for name, piece in zip(scores, pieces, strict=True)}


def share(total: int, sizes: list[int], limits: list[int]) -> list[int]:
    """Divide `total` in proportion to `sizes`, exactly, by largest remainder, none above its limit.

    A layer that has fewer living weights than its share passes the rest on to the others. Gives
    `limits` back where their sum does not reach `total`.
    """
    if sum(limits) <= total:
        return list(limits)
    quotas = [0] * len(sizes)
    free = list(range(len(sizes)))
    while free:
        left = total - sum(quotas)
        weight = sum(sizes[i] for i in free)
        full = [i for i in free if left * sizes[i] >= limits[i] * weight]
        if not full:
            break
        for i in full:
            quotas[i] = limits[i]
        free = [i for i in free if i not in full]
    left = total - sum(quotas)
    weight = sum(sizes[i] for i in free)
    for i in free:
        quotas[i] = left * sizes[i] // weight
    by_remainder = sorted(free, key=lambda i: (-(left * sizes[i] % weight), i))
    for i in by_remainder[: total - sum(quotas)]:
        quotas[i] += 1
    return quotas
