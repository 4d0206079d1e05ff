"""The fast minimum-norm attack."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainables.attacks.base import Norm
from trainables.attacks.minimal import Minimal, slope_of_lead

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.attacks.base import LogitsFn


class Fmn(Minimal):
    """Normalised gradient steps within a ball that shrinks while the input is misclassified, and grows while it is not.

    The best length of a step depends on the network, so it runs once per length, and the nearest input counts.
    Source: Pintor et al. 2021, arXiv:2102.12827.
    """

    kind: Literal["fmn"] = "fmn"
    norm: Norm = Field(default="linf", description="norm of the distance")
    steps: int = Field(default=100, gt=0, description="gradient steps per run")
    step_sizes: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1.0, 10.0), min_length=1, description="l2 length of the first step, of each run; the last is 1 % of it"
    )
    rate: float = Field(
        default=0.05, gt=0, lt=1, description="share by which a step changes the ball at first; 2 % of it at last"
    )

    @property
    def label(self) -> str:
        return f"FMN-{self.steps}" + (f"x{len(self.step_sizes)}" if len(self.step_sizes) > 1 else "")

    def cheaper(self, steps: int) -> Fmn:
        return self.model_copy(update={"steps": min(steps, self.steps), "step_sizes": self.step_sizes[:1]})

    def nearest(self, logits_fn: LogitsFn, x: Tensor, y: Tensor) -> Tensor:
        from trainables.attacks.geometry import choose

        best, least = self._descend(logits_fn, x, y, self.step_sizes[0])
        for size in self.step_sizes[1:]:
            found, distance = self._descend(logits_fn, x, y, size)
            nearer = distance < least
            best, least = choose(nearer, found, best), distance.minimum(least)
        return best

    def _descend(self, logits_fn: LogitsFn, x: Tensor, y: Tensor, first: float) -> tuple[Tensor, Tensor]:
        """Return the nearest inputs (N, ...) of one run and their distances (N,), infinite for none."""
        import torch

        from trainables.attacks.geometry import REGIONS, choose, length, per_image

        dual = {"linf": 1, "l2": 2}[self.norm]
        farthest = length(torch.maximum(x, 1 - x), self.norm)
        best, least = x.clone(), torch.full_like(farthest, torch.inf)
        z, radius = x, farthest
        for step in range(self.steps + 1):
            crossed, ahead, gradient = slope_of_lead(logits_fn, z, y)
            distance = length(z - x, self.norm)
            nearer = crossed & (distance < least)
            best = choose(nearer, z, best)
            least = torch.where(nearer, distance, least)
            cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
            rate = self.rate * (0.02 + 0.98 * cosine)
            size = first * (0.01 + 0.99 * cosine)
            rate_of_lead = torch.linalg.vector_norm(gradient.flatten(1), ord=dual, dim=1).clamp_min(1e-12)
            to_face = distance + ahead.abs() / rate_of_lead
            # Beyond the face, or an affine network would be approached from inside for ever.
            outward = torch.where(least.isfinite(), radius, to_face) * (1 + rate)
            radius = torch.where(crossed, torch.minimum(radius * (1 - rate), least), outward)
            radius = torch.minimum(torch.nan_to_num(radius, nan=0.0), farthest)
            descent = gradient / per_image(length(gradient, "l2").clamp_min(1e-12), x)
            z = REGIONS[self.norm](x, per_image(radius, x)).project(z - size * descent)
        return best, least
