"""Cheap automatic checks of a measurement: signs that a robust accuracy is overestimated.

Source: Carlini et al. 2019, arXiv:1902.06705; the flags of AutoAttack (Croce & Hein 2020, arXiv:2003.01690).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from trainables import attacks
from trainables.attacks.base import LogitsFn
from trainables.attacks.pgd import Fgsm
from trainables.core.rng import derive
from trainables.measure.forward_checks import of_passes
from trainables.measure.probe import dead
from trainables.measure.statistics import exceeds
from trainables.method.protocol import Protocol
from trainables.models.noise import Noise, Noisy
from trainables.store.flags import FLAGS, Severity
from trainables.store.records import Status
from trainables.store.state import FORCED, State, Tensors, named_tensors

SEVERITY: dict[str, Severity] = {name: flag.severity for name, flag in FLAGS.items()}
"""Every flag that a measurement may have, and the point's status with it."""

SAMPLE = 200
"""Number of examples, the first ones, for the checks that cost passes."""

SHARE = 0.01
"""The share of the sample above which a flag is raised, once chance is ruled out."""

CONSTANT = 0.9
"""The share of the sample above which gradients of 0 say that the network is constant."""

BY_NOISE = 0.02
"""The share of the sample that random noise may break although the attack did not: chance, in a dying network."""

MISSED = 0.05
"""The share of what a network used that may be cut by force where its training was to reach the budget itself."""

_TOLERANCE = 1e-4


def status(flags: Iterable[str]) -> Status:
    """Return the worst severity among the flags."""
    severities = {SEVERITY[flag] for flag in flags}
    return "invalid" if "invalid" in severities else "warn" if severities else "ok"


def ordered(flags: Iterable[str]) -> tuple[str, ...]:
    """Return the flags without repetition in the order of the table."""
    raised = set(flags)
    return tuple(flag for flag in SEVERITY if flag in raised)


def of_state(state: State) -> Iterator[str]:
    """Check the tensors of a state that is measured."""
    if any(bool(state.params[name][~mask].count_nonzero()) for name, mask in state.masks.items()):
        yield "masks_broken"
    if not all(bool(state.params[name].count_nonzero()) for name in state.prunable()):
        yield "dead_layer"
    if FORCED in state.notes and float(state.notes[FORCED]) > MISSED:
        yield "budget_missed"


def of_networks(nets: nn.Module, before: Tensors) -> Iterator[str]:
    """Check networks that were measured, whose tensors were those of `before`."""
    if not all(torch.equal(t, before[name]) for name, t in named_tensors(nets).items()):
        yield "buffers_changed"


def of_noise(noise: Noise, state: State) -> Iterator[str]:
    """Check the noise that a network was measured with."""
    if not noise.masked and not all(bool(state.masks[name].all()) for name in noise.alpha):
        yield "noise_on_pruned"


def of_verdicts(clean: Tensor, y: Tensor, *, finite: bool) -> Iterator[str]:
    """Check clean verdicts (N,) against always predicting the commonest class."""
    if not finite:
        yield "non_finite_logits"
    chance = float(y.bincount().max()) / len(y)
    if float(clean.float().mean()) <= chance + 2 * (chance * (1 - chance) / len(y)) ** 0.5:
        yield "at_chance"


def of_sample(
    net: nn.Module,
    logits_fn: LogitsFn,
    protocol: Protocol,
    x: Tensor,
    y: Tensor,
    robust: Tensor,
    stands: Callable[[Tensor], Tensor],
) -> Iterator[str]:
    """Check a sample of examples, `robust` being the attack's verdicts on them; `stands` classifies inputs like those.

    `logits_fn` is one pass of the network as attacks see it.

    Shapes: x (N, C, H, W) in [0, 1]; y, robust and what `stands` returns (N,).
    """
    generator = torch.Generator(x.device).manual_seed(derive("checks", protocol.seed))
    gradient, logits = _gradient(net, x, y)
    moved = stands(_noise(protocol, x, generator))
    still = (gradient == 0).flatten(1).all(dim=1)
    hidden = int((still & ~dead(net, x, still)).sum())
    if exceeds(hidden, len(x), SHARE) or int(still.sum()) > CONSTANT * len(x):
        yield "zero_gradient"
    if bool(((logits >= 0) & (logits <= 1)).all()) and bool(((logits.sum(dim=1) - 1).abs() < _TOLERANCE).all()):
        yield "softmax_output"
    if int((robust & ~moved).sum()) > max(3.0, BY_NOISE * len(y)):
        yield "random_noise_stronger"
    yield from of_passes(net, x, random=isinstance(net, Noisy))
    single = Fgsm(norm=protocol.attack.norm, random_start=False, step_size=1.0)
    found = attacks.run(single, logits_fn, x, y, eps=float(protocol.eps), generator=generator)
    survivors = stands(x) & stands(found)
    more, fewer = int((robust & ~survivors).sum()), int((survivors & ~robust).sum())
    # McNemar's exact test: an example or two may go either way.
    if more - fewer > max(1.0, SHARE * len(y)) and exceeds(more, more + fewer, 0.5):
        yield "weaker_than_fgsm"


def _gradient(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of the cross-entropy with respect to each image (N, C, H, W), and the logits (N, K).

    NaN, which no attack can follow, counts as 0.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = net(x)
        if not logits.requires_grad:
            return torch.zeros_like(x), logits.detach()
        loss = torch.nn.functional.cross_entropy(logits.float(), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x, allow_unused=True, materialize_grads=True)
    return gradient.nan_to_num(0.0), logits.detach()


def _noise(protocol: Protocol, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return the images with noise of the protocol's radius: random signs in l_inf, a random direction in l2."""
    drawn = torch.randn(x.shape, generator=generator, device=x.device)
    if protocol.attack.norm == "linf":
        direction = drawn.sign()
    else:
        direction = drawn / torch.linalg.vector_norm(drawn, dim=tuple(range(1, x.dim())), keepdim=True).clamp_min(1e-12)
    return (x + float(protocol.eps) * direction).clamp(0, 1)
