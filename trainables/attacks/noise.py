"""Random noise: what an attack must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.attacks.base import Attack
from trainables.core import heartbeat

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainables.attacks.base import LogitsFn


class Noise(Attack):
    """Points drawn uniformly from the ball; per image the one at which the true logit leads least, or trails most."""

    kind: Literal["noise"] = "noise"
    draws: int = Field(default=100, gt=0, description="points that are tried per image")

    @property
    def label(self) -> str:
        return f"noise-{self.draws}"

    def cheaper(self, steps: int) -> Noise:
        return self.model_copy(update={"draws": min(steps, self.draws)})

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

        from trainables.attacks.geometry import choose, region
        from trainables.attacks.losses import Margin

        around, loss = region(self.norm, x, eps), Margin(y)
        found, shortest = x, x.new_full((len(x),), torch.inf)
        for _ in range(self.draws):
            heartbeat.beat()
            inputs = around.draw(generator)
            with torch.no_grad():
                leads = -loss.value(logits_fn(inputs)).to(x.dtype)
            found = choose(leads < shortest, inputs, found)
            shortest = torch.fmin(shortest, leads)
        return found
