"""The tensor side of rewirings: new masks from weights, gradients, and how the training goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from itertools import pairwise

import torch
from torch import Tensor

from trainables.engine.selection import Look
from trainables.mask_updates.base import Rewiring
from trainables.mask_updates.flying_bird import FlyingBird
from trainables.mask_updates.gradual import Gradual
from trainables.method.phases import Prune
from trainables.pruning.cut import prune
from trainables.store.state import State, Tensors


@dataclass(frozen=True)
class Moment:
    """A training after one of its steps.

    `params` and `masks` are as they are now; `gradients` are those of the step, of pruned weights too, by prunable
    weight. `initial` is the sparsity that the training began with. `looks` are those at the images held back.
    """

    step: int
    steps: int
    params: Mapping[str, Tensor]
    masks: Tensors
    gradients: Mapping[str, Tensor]
    initial: float
    looks: Sequence[Look]
    generator: torch.Generator


@singledispatch
def rewired(spec: Rewiring, moment: Moment) -> Tensors:
    """Return the masks to go on with; the framework sets what they prune to 0, and what they open starts there."""
    raise NotImplementedError(f"no way to rewire by {spec.kind}")


@rewired.register
def _gradual(spec: Gradual, moment: Moment) -> Tensors:
    sparsity = spec.sparsity_at(moment.step, moment.steps, moment.initial)
    state = State({name: p.detach() for name, p in moment.params.items()}, {}, moment.masks)
    return prune(Prune(sparsity=sparsity, pruning=spec.pruning), state, moment.generator).masks


@rewired.register
def _flying_bird(spec: FlyingBird, moment: Moment) -> Tensors:
    share = spec.share(moment.step, moment.steps)
    overfits = learns_ill = False
    if spec.plus and moment.step >= spec.plus_from * moment.steps:
        overfits = rises([look.trained - look.robust for look in moment.looks], spec.window)
        learns_ill = rises([look.loss for look in moment.looks], spec.window)
    masks = dict(moment.masks)
    for name, gradient in moment.gradients.items():
        mask = masks[name]
        living = int(mask.sum())
        if living in (0, mask.numel()):
            continue
        dropped = round(share * living)
        grown = dropped + (round(spec.extra_growth * dropped) if learns_ill else 0)
        lost = min(living, dropped + (round(spec.extra_drop * dropped) if overfits else 0))
        left = highest(moment.params[name].abs(), mask, living - lost)
        if spec.grow == "gradient":
            wanted = gradient.abs()
        else:
            device = moment.generator.device
            wanted = torch.rand(mask.shape, generator=moment.generator, device=device).to(mask.device)
        masks[name] = left | highest(wanted, ~left, grown)
    return masks


def rises(values: Sequence[float], window: int) -> bool:
    """Say whether a series rose in at least half of its last `window` steps; not before there are so many."""
    if len(values) <= window:
        return False
    last = values[-window - 1 :]
    return 2 * sum(after > before for before, after in pairwise(last)) >= window


def highest(scores: Tensor, among: Tensor, number: int) -> Tensor:
    """Return a mask of so many highest scores where `among` is True, or of all there; ties go to the lower index."""
    flat = torch.where(among, scores.detach().double(), -torch.inf).reshape(-1)
    order = flat.sort(descending=True, stable=True).indices
    chosen = torch.zeros(flat.shape, dtype=torch.bool, device=flat.device)
    chosen[order[: min(number, int(among.sum()))]] = True
    return chosen.view(among.shape)
