"""How sparse a network's activations are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainables.metrics.base import Metric, MetricContext

CHUNK = 250


class Activations(Metric):
    """The share of zeros in the outputs of the activation layers, on clean images.

    `zeros_<i>` for the i-th activation in the order of the forward pass, from 0; `zeros` over the outputs of all.
    """

    kind: Literal["activations"] = "activations"
    examples: int | None = Field(
        default=500, gt=0, description="number of images, the first of the protocol's; null: all"
    )

    def values(self, context: MetricContext) -> dict[str, float]:
        import torch

        from trainables.models.activations import recorded

        x = context.x[: self.examples]
        zeros: list[int] = []
        sizes: list[int] = []
        for start in range(0, len(x), CHUNK):
            with torch.no_grad(), recorded(context.net) as outputs:
                context.net(x[start : start + CHUNK])
            zeros = zeros or [0] * len(outputs)
            sizes = sizes or [0] * len(outputs)
            for index, output in enumerate(outputs):
                zeros[index] += int((output == 0).sum())
                sizes[index] += output.numel()
        shares = {f"zeros_{index}": z / n for index, (z, n) in enumerate(zip(zeros, sizes, strict=True))}
        return {**shares, "zeros": sum(zeros) / sum(sizes) if sizes else float("nan")}
