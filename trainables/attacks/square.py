"""The Square Attack: random search that sees logits alone."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.attacks.base import Attack
from trainables.core import heartbeat

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainables.attacks.base import LogitsFn
    from trainables.attacks.standing import Standing

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, after which the squares have half the area."""


class Square(Attack):
    """Change random squares of the image, and keep what shrinks the lead of the true logit. It needs no gradients.

    An image leaves at its first misclassified input; where there is
    none, the result is the input of the shortest lead. Images of one row, such as (N, pixels), have squares of a pixel.
    Source: Andriushchenko et al. 2020, arXiv:1912.00049; unlike theirs, an image's
    squares are its own in a batch, and reach its last row and column.
    """

    kind: Literal["square"] = "square"
    queries: int = Field(default=5000, gt=0, description="inputs that are tried per image and restart")
    restarts: int = Field(default=1, gt=0, description="independent runs; later ones attack what still stands")
    area: float = Field(default=0.8, gt=0, le=1, description="share of the image that the first squares cover")
    rescale: bool = Field(
        default=False,
        description="scale the schedule of areas from the 10,000 queries it is made for to `queries`; AutoAttack does "
        "not",
    )
    reach: float | None = Field(
        default=None,
        gt=0,
        description="after a fifth of the queries, give up an image whose lead, falling at this many times its pace, "
        "would not be 0 at the end; never while the attack breaks images of the batch; null: give up none",
    )

    @property
    def needs_no_gradients(self) -> bool:
        return True

    @property
    def label(self) -> str:
        return f"Square-{self.queries}" + (f"x{self.restarts}" if self.restarts > 1 else "")

    def cheaper(self, steps: int) -> Square:
        return self.model_copy(update={"queries": min(steps, self.queries), "restarts": 1})

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

        from trainables.attacks.losses import lead
        from trainables.attacks.random_search import SEARCHES
        from trainables.attacks.standing import Standing
        from trainables.attacks.verdicts import wrong

        standing = Standing(logits_fn, x, y, eps)
        least = x.new_full((len(x),), torch.inf)
        for _ in range(self.restarts):
            if not len(standing):
                break
            search = SEARCHES[self.norm](standing.x, standing.radius(), generator)
            shortest = standing.x.new_full((len(standing),), torch.inf)
            pace = _Pace(self.queries, self.reach)
            for query in range(self.queries):
                heartbeat.beat()
                if (hopeful := pace.hopeful(query, shortest)) is not None:
                    self._keep(standing, search.best, shortest, least)
                    standing.leave(standing.found[standing.left], ~hopeful)
                    search.keep(hopeful)
                    shortest = shortest[hopeful]
                    if not len(standing):
                        break
                inputs = search.first() if query == 0 else search.propose(self._side(query - 1, search.size))
                with torch.no_grad():
                    logits = logits_fn(inputs.view(-1, *x.shape[1:]))
                leads = lead(logits.float(), standing.y).to(x.dtype)
                search.accept(inputs, leads < shortest)
                shortest = torch.fmin(shortest, leads)
                fooled = wrong(logits, standing.y)
                if bool(fooled.any()):
                    standing.leave(inputs.view(-1, *x.shape[1:]), fooled)
                    search.keep(~fooled)
                    shortest, pace.broke = shortest[~fooled], True
                    if not len(standing):
                        break
            self._keep(standing, search.best, shortest, least)
        return standing.found

    @staticmethod
    def _keep(standing: Standing, best: Tensor, shortest: Tensor, least: Tensor) -> None:
        """Keep a run's inputs where their leads (M,) are shorter than in the runs before, of all images (N,)."""
        shorter = shortest < least[standing.left]
        places = standing.left[shorter]
        least[places] = shortest[shorter]
        standing.found[places] = best[shorter].view(-1, *standing.found.shape[1:])

    def _side(self, query: int, size: tuple[int, int]) -> int:
        """Return the side of the squares of a query, for images of this height and width."""
        at = query / self.queries * 10_000 if self.rescale else query
        share = self.area / 2 ** bisect_left(_HALVINGS, at)
        return min(max(round(math.sqrt(share * size[0] * size[1])), 1), *size)


class _Pace:
    """Whether random search can still succeed: leads fall by about as much with every doubling of the queries."""

    def __init__(self, queries: int, reach: float | None) -> None:
        self.look, self.left, self.reach = -(-queries // 5), math.log2(5), reach
        self.broke = False
        self.before: Tensor | None = None

    def hopeful(self, query: int, leads: Tensor) -> Tensor | None:
        """Return which images (N,) to go on with, at the query where this is decided; before it, and after, None."""
        if query == self.look // 2:
            self.before = leads
        if query != self.look or self.reach is None or self.broke or self.before is None:
            return None
        return leads <= self.reach * self.left * (self.before - leads)
