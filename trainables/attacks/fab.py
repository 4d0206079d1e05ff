"""The Fast Adaptive Boundary attack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.attacks.base import Norm
from trainables.attacks.minimal import Minimal, jacobian, slope_of_lead
from trainables.core import heartbeat

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainables.attacks.base import LogitsFn

_LOOK = 5
"""A class out of reach is given up after one in this many steps."""


class Fab(Minimal):
    """Project to the linearised boundary, biased towards the image, and step back from it where it was crossed.

    In a ball, an image leaves once an input within it is found.
    Source: Croce & Hein 2020, arXiv:1907.02044; targeted as in AutoAttack, arXiv:2003.01690.
    """

    kind: Literal["fab"] = "fab"
    norm: Norm = Field(default="linf", description="norm of the distance")
    steps: int = Field(default=100, gt=0, description="steps per class")
    targets: int | None = Field(
        default=9,
        gt=0,
        description="wrong classes aimed at one after the other, those of the largest logits; null: the nearest face",
    )
    restarts: int = Field(default=1, gt=0, description="runs; all but the first start at a random point")
    bias: float = Field(default=0.1, gt=0, le=1, description="largest weight of the image in a step")
    overshoot: float = Field(default=1.05, ge=1, description="factor of the step to the boundary")
    retreat: float = Field(default=0.9, gt=0, lt=1, description="share of the perturbation kept after a crossing")
    reach: float | None = Field(
        default=None,
        gt=0,
        description="in a ball of radius eps, give a class up after a fifth of the steps where the input found for it "
        "is farther than this many eps; null: never",
    )

    @property
    def label(self) -> str:
        return f"FAB{'' if self.targets is None else '-T'}-{self.steps}"

    def cheaper(self, steps: int) -> Fab:
        return self.model_copy(update={"steps": min(steps, self.steps), "restarts": 1})

    def nearest(self, logits_fn: LogitsFn, x: Tensor, y: Tensor) -> Tensor:
        import torch

        return self._search(logits_fn, x, y, None, torch.Generator(x.device).manual_seed(0))

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

        from trainables.attacks.standing import classes

        radius = torch.as_tensor(eps, dtype=x.dtype, device=x.device).expand(len(x))
        return self._search(logits_fn, x, classes(y), radius, generator)

    def _search(
        self, logits_fn: LogitsFn, x: Tensor, y: Tensor, eps: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """Return the nearest inputs found. Shapes: x (N, ...); y and eps (N,)."""
        import torch

        from trainables.attacks.verdicts import correct

        with torch.no_grad():
            logits = logits_fn(x)
        found, least = x.clone(), torch.where(correct(logits, y), torch.inf, 0.0).to(x.dtype)
        ranked = logits.scatter(1, y[:, None], -torch.inf).sort(dim=1, descending=True, stable=True).indices
        others = logits.shape[1] - 1
        rounds = [None] if self.targets is None else range(min(self.targets, others))
        for place in rounds if others else ():
            for restart in range(self.restarts):
                goal = least.new_zeros(len(x)) if eps is None else eps
                left = (least > goal).nonzero()[:, 0]
                if not len(left):
                    return found
                target = None if place is None else ranked[left, place]
                radius = None if eps is None else eps[left]
                run = _Run(self, x[left], y[left], target, radius)
                if restart:
                    run.scatter(least[left] if eps is None else torch.minimum(least[left], eps[left]), generator)
                inputs, distance = run.go(logits_fn)
                nearer = distance < least[left]
                found[left[nearer]], least[left[nearer]] = inputs[nearer], distance[nearer]
        return found


class _Run:
    """One run, towards a target class per image or the nearest face, on the images that it has not given up."""

    def __init__(self, attack: Fab, x: Tensor, y: Tensor, target: Tensor | None, eps: Tensor | None) -> None:
        import torch

        self.attack, self.x, self.y, self.target, self.eps = attack, x, y, target, eps
        self.z = x
        self.found, self.least = x.clone(), x.new_full((len(x),), torch.inf)
        self.left = torch.arange(len(x), device=x.device)

    def scatter(self, radius: Tensor, generator: torch.Generator) -> None:
        """Start at random within half the radius (N,)."""
        from trainables.attacks.geometry import region

        self.z = region(self.attack.norm, self.x, radius.clamp_max(1.0) / 2).draw(generator)

    def go(self, logits_fn: LogitsFn) -> tuple[Tensor, Tensor]:
        """Return the nearest inputs and their distances, infinite where the boundary was not crossed."""
        for step in range(self.attack.steps):
            heartbeat.beat()
            self._step(logits_fn)
            if self.eps is not None and (len(self.left) == 0 or self._leave(step)):
                break
        return self.found, self.least

    def _step(self, logits_fn: LogitsFn) -> None:
        import torch

        from trainables.attacks.geometry import choose, length, to_plane
        from trainables.attacks.verdicts import wrong

        norm, x = self.attack.norm, self.x
        value, slope = self._face(logits_fn)
        here, flat = self.z.flatten(1), x.flatten(1)
        from_z = to_plane(norm, here, value, slope)
        from_x = to_plane(norm, flat, value + (slope * (flat - here)).sum(dim=1), slope)
        ahead, behind = (length(step, norm).clamp_min(1e-8) for step in (from_z, from_x))
        weight = (ahead / (ahead + behind)).clamp_max(self.attack.bias)[:, None]
        over = self.attack.overshoot
        z = (here + over * from_z) * (1 - weight) + (flat + over * from_x) * weight
        z = torch.where(z.isnan(), flat, z).clamp_(0, 1).view_as(x)
        with torch.no_grad():
            crossed = wrong(logits_fn(z), self.y)
        distance = length(z - x, norm)
        nearer = crossed & (distance < self.least[self.left])
        self.found[self.left[nearer]], self.least[self.left[nearer]] = z[nearer], distance[nearer]
        self.z = choose(crossed, x + (z - x) * self.attack.retreat, z)

    def _face(self, logits_fn: LogitsFn) -> tuple[Tensor, Tensor]:
        """Return the linearised face to go to: the rival's lead (N,) and its slope (N, pixels)."""
        import torch

        if self.target is not None:
            _, lead, gradient = slope_of_lead(logits_fn, self.z, self.y, self.target)
            return -lead, -gradient.flatten(1)
        _, (values, slopes) = jacobian(logits_fn, self.z, self.y, 2**30)
        dual = {"linf": 1, "l2": 2}[self.attack.norm]
        distance = values.abs() / torch.linalg.vector_norm(slopes, ord=dual, dim=2).clamp_min(1e-12)
        row, nearest = torch.arange(len(values), device=values.device), distance.argmin(dim=1)
        return torch.nan_to_num(values[row, nearest]), torch.nan_to_num(slopes[row, nearest])

    def _leave(self, step: int) -> bool:
        """Go on without the images that are broken or out of reach, and return whether none is left."""
        import torch

        assert self.eps is not None
        least = self.least[self.left]
        stay = least > self.eps
        if self.attack.reach is not None and step + 1 == -(-self.attack.steps // _LOOK):
            stay &= ~((least > self.attack.reach * self.eps) & torch.isfinite(least))
        if not bool(stay.all()):
            self.left, self.x, self.y, self.z = self.left[stay], self.x[stay], self.y[stay], self.z[stay]
            self.eps = self.eps[stay]
            self.target = None if self.target is None else self.target[stay]
        return not bool(stay.any())
