"""The inputs that an attack may use: a ball around each image, intersected with the pixel box [0, 1]."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from trainables.attacks.base import Norm

_SCALINGS = 16


class Region(Protocol):
    """The allowed inputs around a batch `x` (N, ...) in the box; all tensors are shaped like it.

    `project` and `draw` return new tensors.
    """

    def project(self, z: Tensor) -> Tensor:
        """Return the nearest allowed inputs."""
        ...

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return inputs drawn uniformly from the ball and projected to the box."""
        ...

    def ascend(self, z: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Return the allowed inputs after a steepest-ascent step of length `size`; may reuse `z` and `gradient`."""
        ...


def per_image(eps: float | Tensor, x: Tensor) -> float | Tensor:
    """Shape a radius so that it broadcasts over the images: a number stays one, (N,) becomes (N, 1, ...)."""
    if isinstance(eps, Tensor):
        return column(eps.to(x), x) if eps.dim() else float(eps)
    return float(eps)


def _move(z: Tensor, direction: Tensor, size: float | Tensor) -> Tensor:
    if isinstance(size, Tensor):
        return torch.addcmul(z, direction, size)
    return torch.add(z, direction, alpha=size)


def _sixteen_bits(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return integers drawn uniformly from -2^15 to 2^15 - 1, shaped like `x`: four from one draw, the costly part."""
    n = x.numel()
    drawn = torch.empty(-(-n // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None, generator=generator)
    return drawn.view(torch.int16)[:n].view(x.shape)


class LInf:
    """The l_inf ball and the box: one interval per pixel."""

    def __init__(self, x: Tensor, eps: float | Tensor) -> None:
        self.low = (x - eps).clamp_(min=0)
        self.high = (x + eps).clamp_(max=1)
        self.x, self.eps = x, eps

    def project(self, z: Tensor) -> Tensor:
        return torch.clamp(z, self.low, self.high)

    def draw(self, generator: torch.Generator) -> Tensor:
        noise = _sixteen_bits(self.x, generator).to(self.x.dtype)
        return _move(self.x, noise, self.eps / 2**15).clamp_(0, 1)

    def ascend(self, z: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        # In place, and the sign after the cast, for speed: on a small net this is a quarter of an attack.
        sign = gradient.to(z.dtype).sign_()
        z = z.addcmul_(sign, size) if isinstance(size, Tensor) else z.add_(sign, alpha=size)
        return z.clamp_(self.low, self.high)


def column(values: Tensor, like: Tensor) -> Tensor:
    """Shape (N,) so that it broadcasts over images: (N, 1, ...)."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def choose(which: Tensor, these: Tensor, those: Tensor) -> Tensor:
    """Return the images of `these` where `which` (N,) is true, else those of `those`; both (N, ...)."""
    return torch.where(column(which, these), these, those)


def length(delta: Tensor, norm: Norm) -> Tensor:
    """Return the norm of each perturbation: (N, ...) becomes (N,)."""
    order = {"linf": torch.inf, "l2": 2.0}[norm]
    found: Tensor = torch.linalg.vector_norm(delta.flatten(1), ord=order, dim=1)
    return found


def to_plane(norm: Norm, z: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """Return the shortest step from `z` in the box to where `value + slope · step` is 0.

    If no step within the box reaches that, the result is one that comes nearest. Its length as a function of how far it
    comes is piecewise linear and concave, so Newton's method from 0 reaches the solution from below in a few steps.

    Shapes: z in [0, 1], slope and the result (N, pixels); value (N,).
    """
    unit = slope.abs().amax(dim=1, keepdim=True).clamp_min(1e-30)
    rise = slope / unit * -value.sign()[:, None]
    gain = rise.abs()
    room = torch.where(rise > 0, 1 - z, z)
    rate = (gain > 0).to(z.dtype) if norm == "linf" else gain
    needed = (value.abs()[:, None] / unit).clamp_max(1e30)
    scale = torch.zeros_like(needed)
    for _ in range(_SCALINGS):
        free = rate * scale < room
        reached = torch.where(free, 0.0, gain * room).sum(dim=1, keepdim=True)
        speed = torch.where(free, gain * rate, 0.0).sum(dim=1, keepdim=True)
        larger = torch.maximum(scale, (needed - reached) / speed.clamp_min(1e-30)).clamp_(max=1e30)
        if bool((larger <= scale * (1 + 1e-6)).all()):
            break
        scale = larger
    return rise.sign() * torch.minimum(rate * scale, room)


def _length(delta: Tensor) -> Tensor:
    """Return the l2 norm per image, shaped to broadcast."""
    length: Tensor = torch.linalg.vector_norm(delta, dim=tuple(range(1, delta.dim())), keepdim=True)
    return length


class L2:
    """The l2 ball and the box."""

    def __init__(self, x: Tensor, eps: float | Tensor) -> None:
        self.x, self.eps = x, eps

    def project(self, z: Tensor) -> Tensor:
        """Project exactly.

        The nearest allowed perturbation is clip(s (z - x)) to the box with the largest s <= 1 that
        keeps its length within eps. Given which pixels are clipped, s solves a quadratic equation;
        iterating grows s from below, so every iterate is allowed.
        """
        delta = z - self.x
        low, high = -self.x, 1 - self.x
        scale = (self.eps / _length(delta).clamp_min(1e-12)).clamp_(max=1)
        clipped = (delta * scale).clamp_(low, high)
        for _ in range(_SCALINGS):
            free = torch.where((clipped > low) & (clipped < high), delta, 0.0)
            used = _length(torch.where(free == 0, clipped, 0.0))
            left = (self.eps**2 - used.square()).clamp_min_(0).sqrt_()
            larger = torch.maximum(scale, left / _length(free).clamp_min(1e-12)).clamp_(max=1)
            if torch.equal(larger, scale):
                break
            scale = larger
            clipped = (delta * scale).clamp_(low, high)
        # Rounding may leave the length slightly above eps; shrinking keeps inputs inside the box.
        clipped *= (self.eps / _length(clipped).clamp_min(1e-12)).clamp_(max=1)
        return (self.x + clipped).clamp_(0, 1)

    def draw(self, generator: torch.Generator) -> Tensor:
        direction = torch.empty(self.x.shape, dtype=self.x.dtype, device=self.x.device)
        direction.normal_(generator=generator)
        uniform = torch.empty_like(_length(direction)).uniform_(generator=generator)
        radius = uniform.pow_(1 / max(self.x[0].numel(), 1)) * self.eps
        return self.project(self.x + direction * (radius / _length(direction).clamp_min(1e-12)))

    def ascend(self, z: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        # Scaled by its largest entry first, or squaring a tiny gradient underflows to a length of 0. NaN leads nowhere,
        # as its sign does in l_inf.
        dims = tuple(range(1, gradient.dim()))
        gradient = gradient.to(z.dtype).nan_to_num(0.0)
        gradient = gradient / gradient.abs().amax(dim=dims, keepdim=True).clamp_min(1e-30)
        return self.project(_move(z, gradient / _length(gradient).clamp_min(1e-12), size))


REGIONS: dict[Norm, type[LInf] | type[L2]] = {"linf": LInf, "l2": L2}


def region(norm: Norm, x: Tensor, eps: float | Tensor) -> Region:
    """Return the ball of radius `eps` in `norm` around each image of `x`, intersected with the box.

    Shapes: x (N, ...) in [0, 1]; eps a number or (N,). Units: eps in pixel units of [0, 1].
    """
    return REGIONS[norm](x, per_image(eps, x))
