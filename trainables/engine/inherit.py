"""Weights inheritance: a dense network takes the weights of a pruned one, and new ones where it was pruned."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from trainables.method.phases import Inherit
from trainables.store.state import State, Tensors


def inherit(phase: Inherit, small: State, fresh: State) -> State:
    """Return the dense network with the remaining weights of `small`, and elsewhere what the phase's `rest` says.

    `fresh` is an initialisation of the same network. Filters that were pruned whole get back their bias and batch norm
    as well: those of `fresh`, but silent (no bias, no shift) where the rest is to add nothing.
    """
    params = {**small.params}
    for name in small.prunable():
        params[name] = torch.where(small.masks[name], small.params[name], _rest(phase, small.masks[name], fresh, name))
    for name in small.masks.keys() - set(small.prunable()):
        params[name] = torch.where(small.masks[name], small.params[name], _woken(phase, fresh, name))
    buffers = {**small.buffers}
    for scale, name in _statistics(fresh):
        if scale in small.masks:
            buffers[name] = torch.where(small.masks[scale], small.buffers[name], fresh.buffers[name])
    if not phase.norms:
        params, buffers = _without_norms(params, buffers, fresh)
    masks = {name: torch.ones_like(small.masks[name]) for name in small.prunable()}
    return State(params, buffers, masks)


def _rest(phase: Inherit, mask: Tensor, fresh: State, name: str) -> Tensor:
    """Return what stands where a weight was pruned."""
    if phase.rest == "zero":
        return torch.zeros_like(fresh.params[name])
    drawn = fresh.params[name] * phase.scale
    if phase.rest != "silent":
        return drawn
    alive = mask.flatten(1).any(dim=1).view(-1, *[1] * (mask.dim() - 1))
    return torch.where(alive, 0.0, drawn)


def _woken(phase: Inherit, fresh: State, name: str) -> Tensor:
    """Return the biases, scales and shifts of filters that were dead."""
    scales = {scale for scale, _ in _statistics(fresh)}
    audible = phase.rest in ("rewind", "random") or name in scales
    return fresh.params[name] if audible else torch.zeros_like(fresh.params[name])


def _without_norms(params: Tensors, buffers: Tensors, fresh: State) -> tuple[Tensors, Tensors]:
    prefixes = {name.rpartition(".")[0] for _, name in _statistics(fresh)}

    def renewed(mine: Tensors, theirs: Tensors) -> Tensors:
        return {name: theirs[name] if name.rpartition(".")[0] in prefixes else value for name, value in mine.items()}

    return renewed(params, fresh.params), renewed(buffers, fresh.buffers)


def _statistics(state: State) -> Iterator[tuple[str, str]]:
    """Yield the scale's name of every batch norm with the name of each of its statistics."""
    for name in state.buffers:
        prefix, _, kind = name.rpartition(".")
        if kind in ("running_mean", "running_var"):
            yield f"{prefix}.weight", name
