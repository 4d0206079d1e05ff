"""Checks of forward passes and of gradients on a sample of examples: is the network the one that is attacked?"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

PASSES = 5
"""Passes that have to be equal."""

ROUNDING = 1e-4
"""The part of the largest logit by which two passes may differ."""

SINGLE = 4
"""Examples that are passed one by one."""


@torch.no_grad()
def of_passes(net: nn.Module, x: Tensor, *, random: bool) -> Iterator[str]:
    """Compare passes of the same images; a `random` network is known to differ.

    Shapes: x (N, C, H, W) in [0, 1].
    """
    if any(module.training for module in net.modules()):
        yield "training_mode"
    logits = net(x)
    if any(_differs(logits, net(x)) for _ in range(PASSES - 1)):
        yield "nondeterministic"
        if not random:
            yield "undeclared_noise"
        return
    alone = torch.cat([net(image[None]) for image in x[:SINGLE]])
    turned = net(x.flip(0)[: -(-len(x) // 2)])
    if _differs(logits[:SINGLE], alone) or _differs(logits.flip(0)[: len(turned)], turned):
        yield "depends_on_batch"
    with torch.enable_grad():
        seen = [net(x.clone()).detach(), net(x.clone().requires_grad_()).detach()]
    if any(_differs(logits, other) for other in seen):
        yield "depends_on_gradients"


def _differs(one: Tensor, other: Tensor) -> bool:
    scale = float(one.abs().amax().nan_to_num(0.0).clamp(min=1e-12)) if one.numel() else 1.0
    return one.shape != other.shape or float((one - other).abs().nan_to_num(0.0, 0.0).amax()) > ROUNDING * scale
