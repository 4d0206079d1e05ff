"""A network as other packages' attacks expect it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainables.attacks.gradients import gradient_by
from trainables.core import heartbeat

if TYPE_CHECKING:
    from trainables.attacks.base import LogitsFn


def differentiable(logits_fn: LogitsFn, *, like: Tensor) -> Callable[[Tensor], Tensor]:
    """Wrap a network so that foreign code can ask it for input gradients in any way, `backward()` included.

    Gradients of parameters are never accumulated; a network without a path to its input has the gradient 0. Logits that
    are not finite become finite. Results may be changed in place. The network gets inputs in the memory format of
    `like` (N, ...).
    """
    last = like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    width: list[int] = []

    def plain(x: Tensor) -> Tensor:
        heartbeat.beat()
        if not len(x) and width:
            return x.new_zeros(0, width[0])
        logits = logits_fn(x.contiguous(memory_format=torch.channels_last) if last else x)
        width[:] = [logits.shape[1]]
        return logits

    def net(x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            found: Tensor = _Logits.apply(x, plain)
            return found
        return _finite(plain(x).detach())

    return net


def _finite(logits: Tensor) -> Tensor:
    return torch.nan_to_num(logits, nan=0.0, posinf=1e30, neginf=-1e30).clone()


class _Logits(torch.autograd.Function):
    """Logits with a graph of their own, from the input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, net: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.enable_grad():
            ctx.x = x.detach().requires_grad_()
            ctx.logits = net(ctx.x)
        return _finite(ctx.logits.detach())

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, None]:
        return gradient_by(ctx.x, ctx.logits, slopes[0], retain_graph=True).contiguous(), None
