"""The inputs that the Square Attack proposes, by norm."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.attacks.base import Norm


class _Search:
    """The best inputs so far of a batch, as images (N, C, H, W), and random changes of them."""

    def __init__(self, x: Tensor, eps: float | Tensor, generator: torch.Generator) -> None:
        rows, columns = (x.shape[-2], x.shape[-1]) if x.dim() > 2 else (1, x[0].numel())
        self.x = x.reshape(len(x), -1, rows, columns)
        self.eps = eps.reshape(-1, 1, 1, 1) if isinstance(eps, Tensor) else eps
        self.best = self.x
        self.size = (rows, columns)
        self.generator = generator
        self._known_lines: dict[int, tuple[Tensor, Tensor]] = {}

    def first(self) -> Tensor:
        """Return the inputs to begin with, shaped like the images."""
        raise NotImplementedError

    def propose(self, side: int) -> Tensor:
        """Return the best inputs with a square of this side changed, each at a place of its own."""
        raise NotImplementedError

    def accept(self, inputs: Tensor, better: Tensor) -> None:
        """Take the inputs that `better` (N,) names for the best."""
        self.best = torch.where(better.view(-1, 1, 1, 1), inputs, self.best)

    def keep(self, which: Tensor) -> None:
        """Go on with the images that `which` (N,) names."""
        self.x, self.best = self.x[which], self.best[which]
        if isinstance(self.eps, Tensor):
            self.eps = self.eps[which]

    def _places(self, side: int) -> tuple[Tensor, Tensor]:
        """Draw the first row and column of a square for each image, both (N,)."""
        places = [
            torch.randint(extent - side + 1, (len(self.x),), generator=self.generator, device=self.x.device)
            for extent in self.size
        ]
        return places[0], places[1]

    def _faces(self, *shape: int) -> Tensor:
        """Draw for each image and place of `shape` whether it is the upper one."""
        drawn = torch.randint(2, (len(self.x), *shape), generator=self.generator, device=self.x.device)
        return drawn.bool()

    def _signed(self, *shape: int) -> Tensor:
        return self._faces(*shape).to(self.x.dtype).mul_(2).sub_(1)

    def _lines(self, side: int) -> tuple[Tensor, Tensor]:
        """Return the pixels of a row and of a column that lie in a square of this side, by the place of its first."""
        if side not in self._known_lines:
            device = self.x.device
            self._known_lines = {side: (_intervals(self.size[0], side, device), _intervals(self.size[1], side, device))}
        return self._known_lines[side]


class _LInf(_Search):
    """Every pixel lies at a face of the ball or the box."""

    def __init__(self, x: Tensor, eps: float | Tensor, generator: torch.Generator) -> None:
        super().__init__(x, eps, generator)
        self.low, self.high = (self.x - self.eps).clamp_(min=0), (self.x + self.eps).clamp_(max=1)

    def first(self) -> Tensor:
        return torch.where(self._faces(self.x.shape[1], 1, self.size[1]), self.high, self.low)

    def propose(self, side: int) -> Tensor:
        # `index_select` takes half the time of an index in brackets.
        rows, columns = (
            line.index_select(0, place) for line, place in zip(self._lines(side), self._places(side), strict=True)
        )
        colour = torch.where(self._faces(self.x.shape[1], 1, 1), self.high, self.low)
        return torch.where(rows[:, None, :, None] & columns[:, None, None, :], colour, self.best)

    def keep(self, which: Tensor) -> None:
        super().keep(which)
        self.low, self.high = self.low[which], self.high[which]


class _L2(_Search):
    """Length moves from one window of the perturbation to a bump in another; what the ball has left is used up."""

    def first(self) -> Tensor:
        rows, columns = self.size
        side = max(min(rows, columns) // 5, 1)
        delta = torch.zeros_like(self.x)
        for top in range(max((rows - 5 * side) // 2, 0), rows - side + 1, side):
            for left in range(max((columns - 5 * side) // 2, 0), columns - side + 1, side):
                bump = self._bump(side) * self._signed(self.x.shape[1], 1, 1)
                delta[:, :, top : top + side, left : left + side] += bump
        return self._filled(delta)

    def propose(self, side: int) -> Tensor:
        side = min(max(side, 3) | 1, *self.size)
        delta = self.best - self.x
        target, source = self._window(side), self._window(side)
        channels = self.x.shape[1]
        old = delta[target]
        moved = torch.zeros_like(delta, dtype=torch.bool)
        moved[target], moved[source] = True, True
        lengths = _length(torch.where(moved, delta, 0.0), (2, 3))
        unused = (self.eps**2 - _length(delta, (1, 2, 3)).square()).clamp_(min=0) / channels
        new = self._bump(side) * self._signed(channels, 1, 1) + old / _length(old, (2, 3)).clamp_min(1e-12)
        new = new / _length(new, (2, 3)).clamp_min(1e-12) * (unused + lengths.square()).sqrt()
        delta[source] = 0.0
        delta[target] = new
        return self._filled(delta)

    def _filled(self, delta: Tensor) -> Tensor:
        return (self.x + delta / _length(delta, (1, 2, 3)).clamp_min(1e-12) * self.eps).clamp_(0, 1)

    def _window(self, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw a square for each image, as an index into a batch."""
        top, left = self._places(side)
        along = torch.arange(side, device=self.x.device)
        image = torch.arange(len(self.x), device=self.x.device).view(-1, 1, 1, 1)
        channel = torch.arange(self.x.shape[1], device=self.x.device).view(1, -1, 1, 1)
        return image, channel, (top[:, None] + along)[:, None, :, None], (left[:, None] + along)[:, None, None, :]

    def _bump(self, side: int) -> Tensor:
        """Return a hill beside a hollow, of length 1, lying or standing at random."""
        if side < 2:
            return self.x.new_ones(1, 1)
        hill, hollow = _hill(side // 2, side), _hill(side - side // 2, side)
        bump = (torch.cat([hill, -hollow]) / 2**0.5).to(self.x)
        upright = torch.rand((), generator=self.generator, device=self.x.device) > 0.5
        return bump.T if bool(upright) else bump


def _hill(rows: int, columns: int) -> Tensor:
    """Return a stack of rectangles around the centre, the k-th of height 1 / k^2, scaled to length 1."""
    down, across = (torch.arange(n).sub(n // 2).abs() for n in (rows, columns))
    ring = torch.maximum(down[:, None], across[None, :])
    layers = 1.0 / torch.arange(1, max(rows, columns) // 2 + 2).square()
    height = layers.flip(0).cumsum(0).flip(0)[ring]
    return height / height.square().sum().sqrt()


def _length(delta: Tensor, dims: tuple[int, ...]) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(delta, dim=dims, keepdim=True)
    return length


def _intervals(extent: int, side: int, device: torch.device) -> Tensor:
    """Return which of `extent` pixels lie in an interval of `side`, by its first one: (extent - side + 1, extent)."""
    at, first = torch.arange(extent, device=device), torch.arange(extent - side + 1, device=device)[:, None]
    return (at >= first) & (at < first + side)


SEARCHES: dict[Norm, type[_LInf] | type[_L2]] = {"linf": _LInf, "l2": _L2}
