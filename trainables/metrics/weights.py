"""Statistics of the prunable weights, all layers together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.metrics.base import Metric, MetricContext

if TYPE_CHECKING:
    from torch import Tensor


class Weights(Metric):
    """How close to sparse the prunable weights are, and how heavy their tails.

    `near_zero`: share of them with an absolute value below `below`, zeros included. `hoyer`: Hoyer's sparsity,
    (sqrt(n) - l1/l2) / (sqrt(n) - 1): 0 if all have one size, 1 if only one is not 0 (Hoyer 2004, JMLR 5).
    `kurtosis`: the fourth standardised moment of those that are not 0; 3 for a normal distribution.
    """

    kind: Literal["weights"] = "weights"
    below: float = Field(default=1e-3, gt=0, description="absolute value below which a weight is near zero")

    def values(self, context: MetricContext) -> dict[str, float]:
        import torch

        state = context.state
        weights = torch.cat([state.params[name].detach().flatten() for name in state.prunable()]).double()
        near = float((weights.abs() < self.below).double().mean())
        return {"near_zero": near, "hoyer": hoyer(weights), "kurtosis": kurtosis(weights[weights != 0])}


def hoyer(values: Tensor) -> float:
    """Return Hoyer's sparsity of a vector; NaN if all values are 0."""
    root = values.numel() ** 0.5
    return float((root - values.abs().sum() / values.square().sum().sqrt()) / (root - 1))


def kurtosis(values: Tensor) -> float:
    """Return the fourth standardised moment of a sample; NaN if all values are equal."""
    centred = values - values.mean()
    return float(centred.pow(4).mean() / centred.square().mean().square())
