"""A second look at the examples that the protocol's attack did not break, by other attacks.

First an attack by gradients on another loss, then one without gradients on what still stands. A network whose gradients
are what they seem falls to the first where it falls at all; what only the second finds, gradients hide.
Source: Carlini et al. 2019, arXiv:1902.06705 (attacks without gradients, transfer, other losses).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainables import attacks
from trainables.attacks.base import LogitsFn, Norm
from trainables.attacks.geometry import region
from trainables.attacks.gradients import input_gradient
from trainables.attacks.pgd import Pgd
from trainables.attacks.square import Square
from trainables.measure.gradient_checks import lead_gradient, of_gradient
from trainables.measure.statistics import exceeds

EXAMPLES = 64
"""The most examples that are probed: the first that the protocol's attack did not break."""

STEPS = 20
"""Gradient steps on the lead of the true logit."""

QUERIES = (100, 400)
"""Queries per example of the search without gradients: at first, then if one broke or another check warns."""

THOROUGH = (
    Pgd(steps=20, loss="margin", restarts=20),
    Pgd(steps=20, restarts=5),
    Pgd(steps=20, loss="margin", random_start=False),
)
"""What an example that the search broke withstands by gradients, if gradients hide that it breaks."""

HIDDEN = 0.01
"""The share of such examples among those probed above which gradients hide something."""

LOWER = 0.03
"""The part of all examples by which that search may lower the robust accuracy unflagged, whatever gradients find."""

MUTE = 0.05
"""The share of probed examples above which a loss without gradients, where another breaks them, is not an accident."""

POINTS = 0.15
"""The part of all examples by which another attack by gradients may lower the robust accuracy unflagged."""

FLAT = 0.25
"""The share of probed examples above which gradients of 0 are not an accident."""


@dataclass(frozen=True)
class Target:
    """What is probed: the network as attacks see it, and the radius.

    `logits_fn` is what attacks by gradients see, `passes` one pass, `stands` returns which inputs (N, C, H, W) are
    classified as `y` (N,), `steady` whether two passes are the same.
    """

    logits_fn: LogitsFn
    passes: LogitsFn
    stands: Callable[[Tensor, Tensor], Tensor]
    norm: Norm
    eps: float
    generator: torch.Generator
    steady: bool = True


def probe(target: Target, x: Tensor, y: Tensor, robust_accuracy: float, *, suspected: bool) -> Iterator[str]:
    """Yield the flags of examples that the protocol's attack did not break; `suspected` if another check raised one.

    Shapes: x (N, C, H, W) in [0, 1], y (N,).
    """
    x, y = x[:EXAMPLES], y[:EXAMPLES]
    if not len(x) or not target.eps:
        return
    fidelity = of_gradient(target.passes, x, y, target.norm, target.eps) if target.steady else None
    start = region(target.norm, x, target.eps).draw(target.generator)
    mute = _zero(target, x, y, cross_entropy=True) & _zero(target, start, y, cross_entropy=True)
    silent = mute & _zero(target, x, y) & _zero(target, start, y)
    broken = ~target.stands(descend(target, x, y, target.eps), y)
    hidden = silent & ~dead(target.passes, x, silent)
    if exceeds(int(hidden.sum()), len(x), FLAT) or exceeds(int((mute & broken).sum()), len(x), MUTE):
        yield "no_gradient"
    if exceeds(int(broken.sum()), len(x), min(1.0, POINTS / max(robust_accuracy, 1e-9))):
        yield "stronger_attack"
    if _resists_everything(target, x[~silent], y[~silent]):
        yield "fails_at_large_radius"
        suspected = True
    if fidelity is not None and fidelity.misleading:
        yield "misleading_gradient"
    suspected = suspected or bool(hidden.any()) or (fidelity is not None and fidelity.rough)
    found = _by_search(target, x[~broken], y[~broken], suspected=suspected)
    lower = exceeds(len(found[0]), len(x), min(1.0, LOWER / max(robust_accuracy, 1e-9)))
    if lower or exceeds(_withstand(target, *found), len(x), HIDDEN):
        yield "black_box_stronger"


def descend(target: Target, x: Tensor, y: Tensor, eps: float, steps: int = STEPS) -> Tensor:
    """Return inputs (N, C, H, W) with a small lead of the true logit, by steps along its gradient."""
    attack = Pgd(norm=target.norm, steps=steps, loss="margin")
    return attacks.run(attack, target.logits_fn, x, y, eps=eps, generator=target.generator)


def _zero(target: Target, z: Tensor, y: Tensor, *, cross_entropy: bool = False) -> Tensor:
    """Return where the gradient of the lead, or of the cross-entropy, is 0 or NaN at inputs: (N,)."""

    def slope(logits: Tensor) -> Tensor:
        true = torch.nn.functional.one_hot(y, logits.shape[1])
        return (logits.float().softmax(dim=1) - true).to(logits.dtype)

    found = input_gradient(target.logits_fn, z, slope) if cross_entropy else lead_gradient(target.logits_fn, z, y)
    return (found.nan_to_num(0.0) == 0).flatten(1).all(dim=1)


@torch.no_grad()
def dead(passes: LogitsFn, x: Tensor, silent: Tensor) -> Tensor:
    """Return which of the `silent` examples, without a gradient, lie where a part of the network died: (N,).

    There it has one answer, whatever the image, and a gradient of 0 is the truth. A network that hides its gradient
    behind steps has many answers. Shapes: x (N, C, H, W), silent (N,).
    """
    if not bool(silent.any()):
        return silent
    _, which, counts = torch.unique(passes(x)[silent], dim=0, return_inverse=True, return_counts=True)
    found = torch.zeros_like(silent)
    found[silent] = (which == counts.argmax()) & (counts[which] > 1)
    return found


def _resists_everything(target: Target, x: Tensor, y: Tensor) -> bool:
    """Return whether most examples stand, and more than the commonest class has, in a ball with the same grey image.

    All images are alike there, so an attack that follows gradients of any use leaves one class at most.
    """
    if not len(x):
        return False
    radius = 0.5 if target.norm == "linf" else 0.5 * x[0].numel() ** 0.5
    found = descend(target, x, y, radius, steps=10)
    commonest = max(0.5, int(y.bincount().max()) / len(y))
    # Where the network died on the way, no gradient led the attack astray.
    astray = target.stands(found, y) & ~_zero(target, found, y)
    return commonest < 1 and exceeds(int(astray.sum()), len(y), commonest)


def _by_search(target: Target, x: Tensor, y: Tensor, *, suspected: bool) -> tuple[Tensor, Tensor]:
    """Return the examples that a search without gradients breaks."""
    found = [(x[:0], y[:0])]
    for queries in QUERIES:
        if not len(x):
            break
        square = Square(norm=target.norm, queries=queries, rescale=True)
        moved = attacks.run(square, target.passes, x, y, eps=target.eps, generator=target.generator, keep="last")
        stands = target.stands(moved, y)
        found.append((x[~stands], y[~stands]))
        x, y = x[stands], y[stands]
        if not suspected and bool(stands.all()):
            break
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


def _withstand(target: Target, x: Tensor, y: Tensor) -> int:
    """Count the examples that thorough attacks by gradients do not break."""
    for attack in THOROUGH:
        if not len(x):
            break
        attack = attack.within(target.norm)
        given: dict[str, Any] = {"eps": target.eps, "generator": target.generator}
        if target.steady:  # An image that is broken needs no more of 20 restarts.
            given["standing"] = torch.ones_like(y, dtype=torch.bool)
            moved = attacks.hunt(attack, target.logits_fn, x, y, **given)
        else:
            moved = attacks.run(attack, target.logits_fn, x, y, **given)
        stands = target.stands(moved, y)
        x, y = x[stands], y[stands]
    return len(x)
