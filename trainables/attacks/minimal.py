"""Attacks that search for the nearest misclassified input: their base, DeepFool and Carlini & Wagner's.

Within a ball they are attacks like any other: the framework projects their results. Their purpose is the distance of
`nearest`, which no ball bounds.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.attacks.base import Attack, Norm
from trainables.core import heartbeat

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainables.attacks.base import LogitsFn


class Minimal(Attack):
    """Base of the attacks that minimise a distance."""

    norm: Norm = Field(default="l2", description="norm of the distance")

    @abstractmethod
    def nearest(self, logits_fn: LogitsFn, x: Tensor, y: Tensor) -> Tensor:
        """Return the nearest misclassified inputs found; `x` itself where none is found, or it is misclassified.

        Shapes: x and the result (N, ...) in [0, 1]; y (N,) class indices.
        """

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
        from trainables.attacks.standing import classes

        return self.nearest(logits_fn, x, classes(y))


def distances(attack: Minimal, logits_fn: LogitsFn, x: Tensor, y: Tensor) -> Tensor:
    """Return the distance of each image to the nearest misclassified input that the attack finds, in its norm.

    0 for an image that is misclassified itself, infinity where nothing was found. The share of distances above a
    radius is the accuracy within it, so one call gives a whole security curve.

    Shapes: x (N, ...) in [0, 1]; y (N,) class indices; the result (N,), in double precision.
    """
    import torch

    from trainables.attacks.geometry import length
    from trainables.attacks.verdicts import correct

    found = attack.nearest(logits_fn, x, y)
    with torch.no_grad():
        stands = correct(logits_fn(found), y)
    return torch.where(stands, torch.inf, length((found - x).double(), attack.norm))


class DeepFool(Minimal):
    """Step after step to the nearest face of the linearised decision region, in the pixel box.

    Source: Moosavi-Dezfooli et al. 2016, arXiv:1511.04599, which has no box.
    """

    kind: Literal["deepfool"] = "deepfool"
    norm: Literal["l2"] = Field(default="l2", description="norm of the distance")
    steps: int = Field(default=50, gt=0, description="largest number of steps")
    overshoot: float = Field(
        default=0.02, ge=0, description="share by which the sum of the steps is lengthened, to cross the boundary"
    )
    candidates: int = Field(default=10, gt=1, description="classes of the largest logits whose faces are considered")

    @property
    def label(self) -> str:
        return "DeepFool"

    def cheaper(self, steps: int) -> DeepFool:
        return self.model_copy(update={"steps": min(steps, self.steps)})

    def nearest(self, logits_fn: LogitsFn, x: Tensor, y: Tensor) -> Tensor:
        import torch

        from trainables.attacks.verdicts import wrong

        shape = (-1, *[1] * (x.dim() - 1))
        z, total = x, torch.zeros_like(x)
        found, done = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for _ in range(self.steps):
            heartbeat.beat()
            logits, slopes = jacobian(logits_fn, z, y, self.candidates - 1)
            crossed = ~done & wrong(logits, y)
            found = torch.where(crossed.view(shape), z, found)
            done = done | crossed
            if bool(done.all()):
                return found
            total = total + _to_nearest_face(*slopes).view_as(x)
            z = (x + (1 + self.overshoot) * total).clamp(0, 1)
        with torch.no_grad():
            crossed = ~done & wrong(logits_fn(z), y)
        return torch.where(crossed.view(shape) & z.isfinite(), z, found)


def jacobian(logits_fn: LogitsFn, z: Tensor, y: Tensor, others: Tensor | int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the logits, and the differences of other classes' logits to that of `y` with their gradients by `z`.

    `others` are the classes, or their number: those with the largest logits.

    Shapes: z (N, ...); y (N,) and others (N, C) class indices; logits (N, K), differences (N, C), gradients
    (N, C, pixels).
    """
    import torch

    from trainables.attacks.gradients import gradient_by

    z = z.detach().requires_grad_()
    with torch.enable_grad():
        logits = logits_fn(z)
        if isinstance(others, int):
            rest = logits.detach().scatter(1, y[:, None], -torch.inf)
            others = rest.topk(min(others, logits.shape[1] - 1), dim=1).indices
        differences = logits.gather(1, others) - logits.gather(1, y[:, None])
        ones = torch.ones_like(differences[:, 0])
        slopes = [gradient_by(z, d, ones, retain_graph=True).flatten(1) for d in differences.unbind(dim=1)]
    return logits.detach(), (differences.detach(), torch.stack(slopes, dim=1))


def slope_of_lead(
    logits_fn: LogitsFn, z: Tensor, y: Tensor, rivals: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what is misclassified, by how much the logit of `y` leads the rival's, and the gradient of that.

    Without rivals they are the largest other logits. NaN in leads and gradients becomes 0.

    Shapes: z (N, ...) and the gradient alike; y, rivals, what is misclassified and the lead (N,).
    """
    import torch

    from trainables.attacks.gradients import input_gradient
    from trainables.attacks.verdicts import wrong

    crossed, leads = torch.zeros_like(y, dtype=torch.bool), z.new_zeros(len(z))

    def slope(logits: Tensor) -> Tensor:
        nonlocal crossed, leads
        others = logits.scatter(1, y[:, None], -torch.inf).argmax(dim=1) if rivals is None else rivals
        crossed = wrong(logits, y)
        leads = (logits.gather(1, y[:, None]) - logits.gather(1, others[:, None]))[:, 0]
        return torch.zeros_like(logits).scatter_(1, others[:, None], -1.0).scatter_(1, y[:, None], 1.0)

    gradient = input_gradient(logits_fn, z, slope).to(z.dtype)
    return crossed, torch.nan_to_num(leads.to(z.dtype)), torch.nan_to_num(gradient)


def _to_nearest_face(differences: Tensor, slopes: Tensor) -> Tensor:
    """Return the shortest step to where one of the linearised differences is 0.

    Shapes: differences (N, C), slopes (N, C, pixels), the result (N, pixels).
    """
    import torch

    length = torch.linalg.vector_norm(slopes, dim=2).clamp_min(1e-12)
    # Just across: a step that ends on the face decides nothing.
    height = differences.abs() + 1e-4 * length.clamp(max=1)
    nearest = (height / length).argmin(dim=1, keepdim=True)
    step: Tensor = (height / length.square()).gather(1, nearest) * slopes[torch.arange(len(slopes)), nearest[:, 0]]
    return step


class CarliniWagner(Minimal):
    """Minimise the squared distance plus c times the lead of the true logit, for the smallest c that suffices.

    By Adam in arctanh space, which keeps pixels in the box. c is searched per image: times ten until one suffices, then
    by bisection. Source: Carlini & Wagner 2017, arXiv:1608.04644; defaults of their code, except for 1,000 steps
    instead of 10,000 with early stopping.
    """

    kind: Literal["cw"] = "cw"
    norm: Literal["l2"] = Field(default="l2", description="norm of the distance")
    steps: int = Field(default=1000, gt=0, description="steps of Adam for each constant")
    searches: int = Field(default=9, gt=0, description="constants that are tried")
    lr: float = Field(default=0.01, gt=0, description="learning rate of Adam")
    constant: float = Field(default=1e-3, gt=0, description="first constant")
    confidence: float = Field(default=0.0, ge=0, description="lead that the wrong logit must have")

    @property
    def label(self) -> str:
        return f"CW-{self.searches}x{self.steps}"

    def cheaper(self, steps: int) -> CarliniWagner:
        return self.model_copy(update={"steps": min(steps, self.steps), "searches": 1})

    def nearest(self, logits_fn: LogitsFn, x: Tensor, y: Tensor) -> Tensor:
        import torch

        from trainables.attacks.verdicts import wrong

        low = x.new_zeros(len(x))
        high = x.new_full((len(x),), torch.inf)
        weight = x.new_full((len(x),), self.constant)
        best, least = x.clone(), x.new_full((len(x),), torch.inf)
        for _ in range(self.searches):
            found, distance = self._descend(logits_fn, x, y, weight)
            nearer = distance < least
            best = torch.where(nearer.view(-1, *[1] * (x.dim() - 1)), found, best)
            least = torch.minimum(least, distance)
            enough = distance.isfinite()
            high = torch.where(enough, torch.minimum(high, weight), high)
            low = torch.where(enough, low, torch.maximum(low, weight))
            weight = torch.where(high.isfinite(), (low + high) / 2, 10 * weight)
        with torch.no_grad():
            misclassified = wrong(logits_fn(x), y)
        return torch.where(misclassified.view(-1, *[1] * (x.dim() - 1)), x, best)

    def _descend(self, logits_fn: LogitsFn, x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest misclassified inputs for these constants and their squared distances, inf for none.

        Shapes: x and the inputs (N, ...) in [0, 1]; y, weight and the distances (N,).
        """
        import torch

        from trainables.attacks.gradients import input_gradient
        from trainables.attacks.verdicts import broken

        shape = (-1, *[1] * (x.dim() - 1))
        # Pixels of exactly 0 or 1 have no finite arctanh.
        w = torch.atanh((2 * x - 1) * 0.999999).detach().requires_grad_()
        adam = torch.optim.Adam([w], lr=self.lr)
        best, least = x.clone(), x.new_full((len(x),), torch.inf)
        chosen = torch.nn.functional.one_hot(y, num_classes=_classes(logits_fn, x)).bool()
        wrong = torch.zeros_like(y, dtype=torch.bool)

        def slope(logits: Tensor) -> Tensor:
            """Return c times the gradient of the lead of the true logit, and record what is misclassified."""
            nonlocal wrong
            other = logits.masked_fill(chosen, -torch.inf)
            lead = logits[chosen] - other.amax(dim=1)
            wrong = ((logits.argmax(dim=1) != y) & (lead <= -self.confidence)) | broken(logits)
            rival = torch.nn.functional.one_hot(other.argmax(dim=1), logits.shape[1])
            gradient = (chosen.to(logits.dtype) - rival) * (lead > -self.confidence).to(logits.dtype)[:, None]
            return gradient * weight[:, None].to(logits.dtype)

        for _ in range(self.steps):
            tanh = torch.tanh(w.detach())
            z = (tanh + 1) / 2
            pull = input_gradient(logits_fn, z, slope).to(x.dtype)
            distance = (z - x).flatten(1).square().sum(dim=1)
            nearer = wrong & (distance < least)
            best = torch.where(nearer.view(shape), z, best)
            least = torch.where(nearer, distance, least)
            w.grad = (2 * (z - x) + pull) * (1 - tanh.square()) / 2
            adam.step()
        return best, least


def _classes(logits_fn: LogitsFn, x: Tensor) -> int:
    import torch

    with torch.no_grad():
        return int(logits_fn(x[:1]).shape[1])
