"""Empirical tangent kernels: how similarly two inputs' outputs change with the weights.

The kernel of inputs x1 and x2 is J(x1) J(x2)^T with J the derivative of the outputs by the parameters. A row of J
belongs to one image, so the network may not mix images: batch norm has to be in eval mode. Source: Jacot et al. 2018,
arXiv:1806.07572; of the sum of outputs over their number's root: Mohamadi et al. 2023, arXiv:2206.12543.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.func import vjp, vmap

from trainables.store.state import Tensors

Function = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""Logits (N, C) of parameters by name and images (N, ...)."""

Outputs = Literal["full", "sum", "random"]


def readout(outputs: Outputs, classes: int, generator: torch.Generator) -> Tensor | None:
    """Return the factors of the logits, (classes, 1), or None for all logits.

    `sum` adds them up; `random` weighs them with normal draws, so that the kernel's expectation is the mean of the full
    one's diagonal over classes. Both divide by the root of the number of classes: the kernel of one output is as large
    as one entry of the full kernel.
    """
    if outputs == "full":
        return None
    shape, device = (classes, 1), generator.device
    weights = torch.randn(shape, generator=generator, device=device) if outputs == "random" else torch.ones(shape)
    return weights.to(device) / math.sqrt(classes)


def jacobian(f: Function, params: Mapping[str, Tensor], x: Tensor, read: Tensor | None = None) -> Tensors:
    """Return the derivative of each image's outputs by each parameter, (N, R, *parameter) by name.

    Differentiable in the parameters. R is the number of classes, or of columns of `read` (C, R).
    """

    # Not `jacrev`, which copies all of it again.
    def rows(image: Tensor) -> Tensors:
        def outputs(at: Mapping[str, Tensor]) -> Tensor:
            logits = f(at, image.unsqueeze(0)).squeeze(0)
            return logits if read is None else logits @ read

        values, pull = vjp(outputs, dict(params))[:2]
        found: Tensors = vmap(pull)(torch.eye(len(values), dtype=values.dtype, device=values.device))[0]
        return found

    each: Tensors = vmap(rows)(x)
    return each


def kernel(
    f: Function,
    params: Mapping[str, Tensor],
    x1: Tensor,
    x2: Tensor,
    *,
    read: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Return the tangent kernel (N, M, R, R) of images x1 (N, ...) and x2 (M, ...).

    With `chunk` the Jacobians of this many images of each are in memory at a time; a gradient of the result needs all
    of them, so take it of one block at a time instead.
    """
    rows = []
    for first in torch.split(x1, chunk or len(x1)):
        left = jacobian(f, params, first, read)
        blocks = [product(left, jacobian(f, params, second, read)) for second in torch.split(x2, chunk or len(x2))]
        rows.append(torch.cat(blocks, dim=1))
    return torch.cat(rows)


def product(left: Tensors, right: Tensors) -> Tensor:
    """Contract Jacobians (N, R, ...) and (M, R, ...) over all parameters to (N, M, R, R)."""
    blocks = [torch.einsum("nrp,msp->nmrs", j.flatten(2), right[name].flatten(2)) for name, j in left.items()]
    return torch.stack(blocks).sum(dim=0)
