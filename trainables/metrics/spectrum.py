"""Norms and condition numbers of the layers' matrices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from trainables.metrics.base import Metric, MetricContext

if TYPE_CHECKING:
    from torch import Tensor


class Spectrum(Metric):
    """Norms of the layers' matrices, as logarithms to base 10, and how ill-conditioned they are.

    A layer's matrix has a row per output and a column per input (of a convolution: per input and kernel position);
    the batch norm behind it is folded in. `frobenius` and `sigma` are the products over all layers of the Frobenius
    norm and of the largest singular value: where layers follow each other without shortcuts, up to how often a
    convolution reads a pixel, bounds of the network's Lipschitz constant; elsewhere proxies of it. `condition` is the
    geometric mean over layers of the largest singular value over the smallest, of the matrix without rows and columns
    of zeros; `condition_max` the largest. Null where a matrix has no full rank, to numerical precision, or is all
    zeros.
    Source: Guo et al. 2018, arXiv:1810.09619 for the products; arXiv:2503.20454 for the condition number.
    """

    kind: Literal["spectrum"] = "spectrum"

    def values(self, context: MetricContext) -> dict[str, float]:
        import torch

        from trainables.models.graph.channels import Wiring

        channels, height, width = context.x.shape[1:]
        wiring = Wiring(context.net, (channels, height, width))
        frobenius = sigma = 0.0
        conditions = []
        for name in context.state.prunable():
            matrix = _matrix(context, name, wiring.norms.get(name))
            frobenius += _log(float(matrix.norm()))
            singular = torch.linalg.svdvals(matrix[matrix.any(dim=1)][:, matrix.any(dim=0)])
            largest, smallest = (float(singular[0]), float(singular[-1])) if len(singular) else (0.0, 0.0)
            sigma += _log(largest)
            negligible = largest * max(matrix.shape) * torch.finfo(torch.float32).eps
            conditions.append(_log(largest) - _log(smallest) if smallest > negligible else math.inf)
        mean = sum(conditions) / len(conditions)
        return {"frobenius": frobenius, "sigma": sigma, "condition": mean, "condition_max": max(conditions)}


def _matrix(context: MetricContext, name: str, norm: str | None) -> Tensor:
    """Return a layer's weight as a matrix, scaled by the batch norm behind it.

    Shapes: (outputs, inputs x kernel positions) float64.
    """
    state = context.state
    matrix = state.params[name].detach().double().flatten(1)
    if norm is None:
        return matrix
    eps = context.net.get_submodule(norm).eps
    assert isinstance(eps, float)
    variance = state.buffers[f"{norm}.running_var"].double()
    scale = state.params[f"{norm}.weight"].detach().double() / (variance + eps).sqrt()
    return matrix * scale[:, None]


def _log(value: float) -> float:
    return math.log10(value) if value > 0 else -math.inf
