"""The Square Attack: random search that sees logits alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.attacks.base import Attack
from trainables.core import heartbeat

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainables.attacks.base import LogitsFn

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, after which the squares have half the area."""


class Square(Attack):
    """Change random squares of the image, and keep what shrinks the lead of the true logit. It needs no gradients.

    An image leaves at its first misclassified input; where there is
    none, the result is the input of the shortest lead. Images of one row, such as (N, pixels), have squares of a pixel.
    Source: Andriushchenko et al. 2020, arXiv:1912.00049 §3 and supplement; unlike theirs, an image's
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

        from trainables.attacks.random_search import SEARCHES
        from trainables.attacks.standing import Standing, lead

        standing = Standing(logits_fn, x, y, eps)
        for _ in range(self.restarts):
            if not len(standing):
                break
            search = SEARCHES[self.norm](standing.x, standing.radius(), generator)
            shortest = standing.x.new_full((len(standing),), torch.inf)
            for query in range(self.queries):
                heartbeat.beat()
                inputs = search.first() if query == 0 else search.propose(self._side(query - 1, search.size))
                with torch.no_grad():
                    logits = logits_fn(inputs.view(-1, *x.shape[1:]))
                leads = lead(logits, standing.y).to(x.dtype)
                wrong = logits.argmax(dim=1) != standing.y
                search.accept(inputs, leads < shortest)
                shortest = torch.fmin(shortest, leads)
                if bool(wrong.any()):
                    standing.broken(inputs.view(-1, *x.shape[1:]), wrong)
                    if not len(standing):
                        break
                    search.keep(~wrong)
                    shortest = shortest[~wrong]
            standing.found[standing.left] = search.best.view(-1, *x.shape[1:])
        return standing.found

    def _side(self, query: int, size: tuple[int, int]) -> int:
        """Return the side of the squares of a query, for images of this height and width."""
        at = query / self.queries * 10_000 if self.rescale else query
        share = self.area / 2 ** sum(at > limit for limit in _HALVINGS)
        return min(max(round(math.sqrt(share * size[0] * size[1])), 1), *size)
