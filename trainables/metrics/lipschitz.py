"""Margins, and the local Lipschitz constants of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.attacks.minimal import jacobian
from trainables.core.spec import Eps
from trainables.metrics.base import Metric, MetricContext

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 50


class Lipschitz(Metric):
    """Margin and local Lipschitz constants for the predicted class, as means over images.

    With logits g and c the class predicted for x: `margin`, the least g_c - g_k over the other classes k; `logit_norm`,
    the logarithm of the l2 norm of the logits, which shows a robustness that is only a small scale; `jacobian_l1` and
    `jacobian_l2`, the largest l1 (against l_inf attacks) and l2 norm of the gradient of g_c - g_k at x over k, and
    `reach_linf` and `reach_l2`, the least margin over that norm: the distance to the boundary if the network were
    linear. With `samples`, `lipschitz_l1` and `lipschitz_l2` are the largest such norms at x and at points drawn from
    the ball of `radius_linf` or `radius_l2`, a lower bound of the true constants, and `clever_linf` and `clever_l2` the
    least margin over them, at most the radius.
    Source: Hein & Andriushchenko 2017, arXiv:1705.08475; Weng et al. 2018 (CLEVER), arXiv:1801.10578,
    with the largest sample where they fit an extreme-value distribution.
    """

    kind: Literal["lipschitz"] = "lipschitz"
    examples: int | None = Field(
        default=100, gt=0, description="number of images, the first of the protocol's; null: all"
    )
    samples: int = Field(default=0, ge=0, description="points drawn from each ball")
    radius_linf: Eps = Field(default=Eps(0.1), description="radius of the l_inf ball, in pixel units of [0, 1]")
    radius_l2: Eps = Field(default=Eps(1.0), description="radius of the l2 ball, in pixel units of [0, 1]")

    def values(self, context: MetricContext) -> dict[str, float]:
        import torch

        parts: dict[str, list[Tensor]] = {}
        images = context.x[: self.examples]
        for start in range(0, len(images), CHUNK):
            for name, values in self._chunk(context, images[start : start + CHUNK]).items():
                parts.setdefault(name, []).append(values)
        return {name: float(torch.cat(values).double().mean()) for name, values in parts.items()}

    def _chunk(self, context: MetricContext, x: Tensor) -> dict[str, Tensor]:
        import torch

        from trainables.attacks.geometry import region

        with torch.no_grad():
            logits = context.net(x)
        # Rivals in order of class, so that the norms at different points are those of the same differences.
        predicted = logits.argmax(dim=1)
        rivals = _rivals(predicted, logits.shape[1])
        margins = logits.gather(1, predicted[:, None]) - logits.gather(1, rivals)
        found = {"margin": margins.amin(dim=1), "logit_norm": logits.norm(dim=1).clamp_min(1e-12).log()}
        norms = {q: _norms(context, x, predicted, rivals, q) for q in (1, 2)}
        for q, norm in norms.items():
            found[f"jacobian_l{q}"] = norm.amax(dim=1)
            found[f"reach_{_BALL[q]}"] = (margins / norm.clamp_min(1e-12)).amin(dim=1)
        for q, radius in ((1, self.radius_linf), (2, self.radius_l2)) if self.samples else ():
            ball = region(_BALL[q], x, float(radius))
            largest = norms[q]
            for _ in range(self.samples):
                point = ball.draw(context.generator)
                largest = torch.maximum(largest, _norms(context, point, predicted, rivals, q))
            found[f"lipschitz_l{q}"] = largest.amax(dim=1)
            reach = (margins / largest.clamp_min(1e-12)).amin(dim=1)
            found[f"clever_{_BALL[q]}"] = reach.clamp(max=float(radius))
        return found


_BALL: dict[int, Literal["linf", "l2"]] = {1: "linf", 2: "l2"}
"""The ball whose norm is dual to the l_q norm of a gradient, by q."""


def _rivals(predicted: Tensor, classes: int) -> Tensor:
    """Return the classes other than the predicted one, ascending: (N, K - 1)."""
    import torch

    every = torch.arange(classes, device=predicted.device).expand(len(predicted), classes)
    return every[every != predicted[:, None]].view(len(predicted), classes - 1)


def _norms(context: MetricContext, z: Tensor, predicted: Tensor, rivals: Tensor, q: int) -> Tensor:
    """Return the l_q norms (N, K - 1) of the gradients of the predicted logit less each rival's."""
    import torch

    _, (_, slopes) = jacobian(context.net, z, predicted, others=rivals)
    found: Tensor = torch.linalg.vector_norm(slopes, ord=q, dim=2)
    return found
