"""The gradient that attacks follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.core import heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from trainables.attacks.base import LogitsFn


def input_gradient(logits_fn: LogitsFn, z: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the gradient with respect to `z` of a loss whose gradient with respect to the logits is `slope(logits)`.

    It is 0 where the logits do not depend on `z`, or the network hides that they do.
    A `logits_fn` with a faster way than autograd has a method of this name; its result may be of lower precision.

    Shapes: z and the result (N, ...); the logits and their slope (N, K).
    """
    import torch

    heartbeat.beat()
    if (faster := getattr(logits_fn, "input_gradient", None)) is not None:
        found: Tensor = faster(z, slope)
        return found
    z = z.detach().requires_grad_()
    with torch.enable_grad():
        logits = logits_fn(z)
    return gradient_by(z, logits, slope(logits.detach()))


def gradient_by(z: Tensor, outputs: Tensor, weights: Tensor, *, retain_graph: bool = False) -> Tensor:
    """Return the gradient with respect to `z` of the sum of `weights * outputs`; 0 where no path leads to `z`.

    Shapes: z and the result (N, ...); outputs and weights alike.
    """
    import torch

    if not outputs.requires_grad:
        return torch.zeros_like(z)
    (found,) = torch.autograd.grad(outputs, z, weights, retain_graph=retain_graph, materialize_grads=True)
    # Attacks change it in place, which a tensor that repeats its memory, such as the gradient of a sum, refuses.
    return found.clone(memory_format=torch.contiguous_format) if 0 in found.stride() else found
