"""The cut: from scores to masks with an exact budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from trainables.core.errors import SpecError
from trainables.method.phases import Prune
from trainables.pruning.base import PrunerContext
from trainables.pruning.densities import quotas, share
from trainables.pruning.filters import keep_filters
from trainables.pruning.network import Network
from trainables.pruning.patterns import keep_pattern
from trainables.store.state import State, Tensors

View = Callable[[State, torch.Generator], Network]
"""How a pruner that looks at more than weights sees the network in a state."""


def prune(phase: Prune, state: State, generator: torch.Generator, view: View | None = None) -> State:
    """Cut a network to the phase's sparsity, in as many cuts as the pruner asks for; what was cut before stays cut.

    By rates it is cut once: they are shares of what the layers have as the phase begins.

    Exactly `size - round(sparsity * size)` weights live afterwards, or all that lived before if
    those are fewer. Filters are cut whole, so that up to that many live, and with them go the readers and batch norms
    that `view` tells of; an n:m pattern leaves what it gives.

    Raises:
        SpecError: the layers that may be pruned have too few weights for the sparsity.
        ValueError: the pruner returned scores that are not finite or not shaped like the weights, or asks to see the
            network and there is no `view`.
    """
    now = 1 - sum(int(state.masks[name].sum()) for name in state.prunable()) / state.size()
    pruner, aim = phase.pruning.pruner, phase.sparsity
    for sparsity in pruner.sparsities(now, aim) if phase.rates is None else (aim,):
        state = _prune(phase.model_copy(update={"sparsity": sparsity}), state, generator, view)
    return state


def below(threshold: float, state: State) -> State:
    """Cut every prunable weight whose absolute value is below a threshold; what was cut before stays cut."""
    kept = {name: state.masks[name] & (state.params[name].abs() >= threshold) for name in state.prunable()}
    return replace(state, masks={**state.masks, **kept}, history={}).masked()


def _prune(phase: Prune, state: State, generator: torch.Generator, view: View | None) -> State:
    names = list(state.prunable())
    settings = phase.pruning
    filters = settings.structure == "filter"
    spared = settings.spared(names)
    open_names = [name for name in names if name not in spared]
    keep = state.size() - round(phase.sparsity * state.size())
    keep_open = keep - sum(int(state.masks[name].sum()) for name in spared)
    if not open_names or (keep_open < 0 and settings.structure == "unstructured"):
        raise SpecError(
            f"a sparsity of {phase.sparsity:g} leaves {keep} of {state.size()} weights, fewer than the layers that "
            f"are not pruned hold ({', '.join(sorted(spared))}); lower it or prune those layers too"
        )
    weights = {name: state.params[name] for name in open_names}
    masks = {name: state.masks[name] for name in open_names}
    network = None if view is None else view(state, generator)
    scores = settings.pruner.scores(PrunerContext(weights, masks, generator, network))
    _check_scores(scores, masks)
    if filters:
        kept = keep_filters(state, scores, keep, settings.scope, settings.group, network.wiring if network else None)
    elif settings.pattern is not None:
        kept = {name: keep_pattern(scores[name], mask, *settings.pattern) for name, mask in masks.items()}
    elif settings.scope == "global" and phase.rates is None:
        kept = keep_best(scores, masks, keep_open)
    else:
        if phase.rates is None:
            shares = quotas(settings.layers, keep_open, list(weights.values()), list(masks.values()))
        else:
            living = [int(mask.sum()) for mask in masks.values()]
            left = [phase.rates.left(n, last=name == names[-1]) for name, n in zip(open_names, living, strict=True)]
            shares = share(keep_open, left, living) if phase.rates.exact else left
        kept = {}
        for name, quota in zip(open_names, shares, strict=True):
            kept |= keep_best({name: scores[name]}, {name: masks[name]}, quota)
    params = _rescaled(state, kept) if settings.rescale else state.params
    return replace(state, params=params, masks={**state.masks, **kept}, history={}).masked()


def _rescaled(state: State, kept: Mapping[str, Tensor]) -> Tensors:
    """Scale each output's surviving weights so that the variance of their sum stays what it was on average."""
    scaled: Tensors = {}
    for name in state.prunable():
        weight, mask = state.params[name], state.masks[name]
        before, after = (m.flatten(1).sum(dim=1) for m in (mask, kept.get(name, mask)))
        factor = (before / after.clamp_min(1)).sqrt().to(weight.dtype)
        scaled[name] = weight * factor.view(-1, *[1] * (weight.dim() - 1))
    return {**state.params, **scaled}


def _check_scores(scores: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    if scores.keys() != masks.keys():
        raise ValueError(f"the pruner scored {sorted(scores)} where {sorted(masks)} were asked for")
    for name, score in scores.items():
        if score.shape != masks[name].shape or not bool(torch.isfinite(score).all()):
            raise ValueError(f"the pruner's scores for {name} are not finite or not shaped {tuple(masks[name].shape)}")


def keep_best(scores: Mapping[str, Tensor], masks: Mapping[str, Tensor], keep: int) -> Tensors:
    """Keep the `keep` living weights of highest score; among equals those of lower index."""
    flat = torch.cat([s.reshape(-1).double() for s in scores.values()])
    living = torch.cat([masks[name].reshape(-1) for name in scores])
    order = torch.where(living, flat, -torch.inf).sort(descending=True, stable=True).indices
    chosen = torch.zeros_like(living)
    chosen[order[: min(keep, int(living.sum()))]] = True
    pieces = torch.split(chosen, [s.numel() for s in scores.values()])
    return {name: piece.view(masks[name].shape).clone() for name, piece in zip(scores, pieces, strict=True)}
