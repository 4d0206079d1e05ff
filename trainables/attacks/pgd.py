"""Projected gradient descent and the fast gradient sign method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.attacks.base import Attack
from trainables.core import heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from trainables.attacks.base import LogitsFn
    from trainables.attacks.geometry import Region


class Pgd(Attack):
    """Projected gradient ascent on the cross-entropy. Source: Madry et al. 2018, arXiv:1706.06083 §2.1."""

    kind: Literal["pgd"] = "pgd"
    steps: int = Field(default=10, gt=0, description="gradient steps")
    # Shorter steps settle in the nearest local maximum and measure up to a percentage point too much.
    step_size: float | None = Field(
        default=None, gt=0, description="length of a step as a share of eps; null: 2.5 / steps, at least 0.25"
    )
    random_start: bool = Field(default=True, description="start at a random point of the ball instead of the image")
    restarts: int = Field(
        default=1, gt=0, description="runs from independent random starts; the result of highest loss counts per image"
    )

    @property
    def label(self) -> str:
        return f"PGD-{self.steps}" + (f"x{self.restarts}" if self.restarts > 1 else "")

    @property
    def share(self) -> float:
        """The length of a step as a share of eps."""
        return max(2.5 / self.steps, 0.25) if self.step_size is None else self.step_size

    def cheaper(self, steps: int) -> Pgd:
        return self.model_copy(update={"steps": min(steps, self.steps), "step_size": self.share, "restarts": 1})

    def perturb(
        self,
        logits_fn: LogitsFn,
        x: Tensor,
        y: Tensor,
        *,
        eps: float | Tensor,
        generator: torch.Generator,
        start: Tensor | None = None,
    ) -> Tensor:
        import torch

        from trainables.attacks.geometry import region

        around = region(self.norm, x, eps)
        restarts = self.restarts if self.random_start and start is None else 1
        kept: Tensor | None = None
        highest: Tensor | None = None
        for _ in range(restarts):
            begin = around.draw(generator) if self.random_start and start is None else x if start is None else start
            end = climb(logits_fn, begin, y, around, steps=self.steps, size=self.share * eps)
            if restarts == 1:
                return end
            with torch.no_grad():
                loss = torch.nn.functional.cross_entropy(logits_fn(end).float(), y, reduction="none")
            if kept is None or highest is None:
                kept, highest = end, loss
            else:
                better = loss > highest
                kept = torch.where(better.reshape(-1, *[1] * (x.dim() - 1)), end, kept)
                highest = torch.maximum(highest, loss)
        assert kept is not None
        return kept


class Fgsm(Attack):
    """One gradient step, by default from a random start.

    Source: Goodfellow et al. 2015, arXiv:1412.6572 §4; random start and step 1.25: Wong et al. 2020, arXiv:2001.03994
    §4.1.
    """

    kind: Literal["fgsm"] = "fgsm"
    random_start: bool = Field(default=True, description="start at a random point of the ball instead of the image")
    step_size: float = Field(default=1.25, gt=0, description="length of the step as a share of eps")

    def perturb(
        self,
        logits_fn: LogitsFn,
        x: Tensor,
        y: Tensor,
        *,
        eps: float | Tensor,
        generator: torch.Generator,
        start: Tensor | None = None,
    ) -> Tensor:
        once = Pgd(norm=self.norm, steps=1, step_size=self.step_size, random_start=self.random_start)
        return once.perturb(logits_fn, x, y, eps=eps, generator=generator, start=start)


class RFgsm(Attack):
    """A random step, in l_inf one of signs, then a gradient step. Source: Tramer et al. 2018, arXiv:1705.07204 §3.3."""

    kind: Literal["rfgsm"] = "rfgsm"
    share: float = Field(default=0.5, gt=0, lt=1, description="length of the random step as a share of eps")

    def perturb(
        self,
        logits_fn: LogitsFn,
        x: Tensor,
        y: Tensor,
        *,
        eps: float | Tensor,
        generator: torch.Generator,
        start: Tensor | None = None,
    ) -> Tensor:
        import torch

        from trainables.attacks.geometry import per_image, region

        around = region(self.norm, x, eps)
        if start is None:
            noise = torch.empty(x.shape, dtype=x.dtype, device=x.device).normal_(generator=generator)
            start = around.ascend(x.clone(), noise, per_image(self.share * eps, x))
        return climb(logits_fn, start, y, around, steps=1, size=(1 - self.share) * eps)


def climb(logits_fn: LogitsFn, start: Tensor, y: Tensor, around: Region, *, steps: int, size: float | Tensor) -> Tensor:
    """Ascend the cross-entropy of each image from `start`, staying in the region, and return the last iterate.

    With probabilities as labels this ascends their KL divergence to the prediction. Only gradients with respect to
    the input are computed.

    Shapes: start and result (N, ...) in [0, 1]; y (N,) class indices or (N, K) probabilities; size a number or (N,).
    Units: size in pixel units of [0, 1].
    """
    import torch

    from trainables.attacks.geometry import per_image

    size = per_image(size, start)
    labels: Tensor | None = None

    def slope(logits: Tensor) -> Tensor:
        """Return the cross-entropy's gradient with respect to the logits, written out."""
        nonlocal labels
        if labels is None:
            labels = y if y.is_floating_point() else torch.nn.functional.one_hot(y, logits.shape[1]).float()
        # The softmax too: for ten classes torch's own takes twice the time.
        powers = (logits.float() - logits.amax(dim=1, keepdim=True)).exp_()
        return powers.div_(powers.sum(dim=1, keepdim=True)).sub_(labels).to(logits.dtype)

    z = start.detach().clone()
    for _ in range(steps):
        z = around.ascend(z, input_gradient(logits_fn, z, slope), size)
    return z


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
    return found
