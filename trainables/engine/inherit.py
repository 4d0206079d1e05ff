"""Weights inheritance: a dense network takes the weights of a pruned one, and new ones where it was pruned."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from trainables.method.phases import Inherit
from trainables.models.graph.channels import Wiring
from trainables.store.state import State, Tensors


def inherit(phase: Inherit, small: State, fresh: State, wiring: Wiring) -> State:
    """Return the dense network with the remaining weights of `small`, and elsewhere what the phase's `rest` says.

    `fresh` is an initialisation of the same network, and `wiring` says who reads whom. Filters that were pruned whole
    get back their bias and batch norm as well: those of `fresh`, but silent (no bias, no shift) where the rest is to
    add nothing.
    """
    params = {**small.params}
    unheard = _unheard(small, wiring) if phase.rest == "silent" else {}
    for name in small.prunable():
        rest = _rest(phase, fresh.params[name], unheard.get(name))
        params[name] = torch.where(small.masks[name], small.params[name], rest)
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


def _unheard(small: State, wiring: Wiring) -> dict[str, Tensor]:
    """Return which filters of each layer were pruned whole and feed no weight that is left: (outputs,) bool."""
    dead = {name: ~small.masks[name].flatten(1).any(dim=1) for name in small.prunable()}
    read = {name: small.masks[name].transpose(0, 1).flatten(1).any(dim=1) for name in small.prunable()}
    return {name: dead[name] & ~heard.to(dead[name].device) for name, heard in wiring.heard(read).items()}


def _rest(phase: Inherit, drawn: Tensor, unheard: Tensor | None) -> Tensor:
    """Return what stands where a weight was pruned; `unheard` says into which filters it changes nothing."""
    if phase.rest in ("rewind", "random"):
        return drawn * phase.scale
    if unheard is None:
        return torch.zeros_like(drawn)
    return torch.where(unheard.view(-1, *[1] * (drawn.dim() - 1)), drawn * phase.scale, 0.0)


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
