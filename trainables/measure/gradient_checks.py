"""Does the gradient say how the logits change?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.attacks.base import LogitsFn, Norm
from trainables.attacks.geometry import region
from trainables.attacks.gradients import input_gradient
from trainables.attacks.losses import lead
from trainables.measure.statistics import exceeds

SMALL = 1e-3
"""The change of the lead, as a part of the largest logit, by which a gradient is compared with a difference."""

MISLEADING = 0.25
"""The share of examples above which gradients that predict no change are not an accident."""

ROUGH = 0.2
"""The share of examples with changes far from the predicted that is worth a longer look."""


@dataclass(frozen=True)
class Fidelity:
    """Whether gradients mislead, and whether there is reason to look closer."""

    misleading: bool = False
    rough: bool = False


def lead_gradient(logits_fn: LogitsFn, z: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of the lead of the true logit, shaped like `z`; NaN counts as 0."""

    def slope(logits: Tensor) -> Tensor:
        true = torch.nn.functional.one_hot(y, logits.shape[1])
        others = logits.masked_fill(true.bool(), -torch.inf)
        return (true - torch.nn.functional.one_hot(others.argmax(dim=1), logits.shape[1])).to(logits.dtype)

    return input_gradient(logits_fn, z, slope).nan_to_num(0.0)


def of_gradient(net: LogitsFn, x: Tensor, y: Tensor, norm: Norm, eps: float) -> Fidelity:
    """Compare the gradient of the true logit's lead with what the lead does: nearby, and at the radius of the attack.

    Nearby the change is what the gradient says, of any smooth or piecewise linear network. At the radius it may be any
    part of it, but hardly ever none, the contrary, or several times as much.

    Shapes: x (N, C, H, W) in [0, 1], y (N,).
    """
    gradient = lead_gradient(net, x, y)
    largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
    moving = (largest > 0).flatten() & largest.isfinite().flatten()
    if not eps or not bool(moving.any()):
        return Fidelity()
    x, y, gradient, largest = x[moving], y[moving], gradient[moving], largest[moving]
    with torch.no_grad():
        scale = net(x).abs().amax(dim=1).clamp_min(1e-12).reshape(-1, 1, 1, 1)
        # Divided by its largest entry first: the squares of a tiny gradient are 0.
        length = torch.linalg.vector_norm(gradient / largest, dim=(1, 2, 3), keepdim=True)
        step = (SMALL * scale / (length * largest)).clamp(max=eps)
        move = gradient / largest / length * step
        nearby = _kept_promise(net, (x - move).clamp(0, 1), (x + move).clamp(0, 1), y, gradient)
        end = region(norm, x, eps).ascend(x.clone(), -gradient, eps)
        far = _kept_promise(net, end, x, y, gradient)
    wrong = ~((nearby > 0.5) & (nearby < 2))
    wrong_far = ~((far.abs() > 0.02) & (far > -0.5) & (far < 5))
    misleading = [exceeds(int(which.sum()), len(x), MISLEADING) for which in (wrong, wrong_far)]
    rough = (far < 0.3) | (far > 1.4)
    return Fidelity(any(misleading), float(rough.float().mean()) > ROUGH)


def _kept_promise(net: LogitsFn, start: Tensor, end: Tensor, y: Tensor, gradient: Tensor) -> Tensor:
    """Return what the lead gains between two inputs, as a part of what the gradient says: (N,)."""
    said = ((end - start) * gradient).flatten(1).sum(dim=1)
    return (lead(net(end), y) - lead(net(start), y)) / said
