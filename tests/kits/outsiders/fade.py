"""A mask update: a share of each layer's smallest weights goes at intervals."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from trainables.mask_updates import MASK_UPDATES
from trainables.mask_updates.base import MaskUpdate


class Fade(MaskUpdate):
    """Cut a share of each layer's remaining weights every few steps of the first half of a training."""

    kind: Literal["fade_of_test"] = "fade_of_test"
    share: float = Field(default=0.1, gt=0, lt=1)
    every: int = Field(default=2, gt=0)

    def due(self, step: int, steps: int) -> bool:
        return step % self.every == 0 and 2 * step <= steps

    def settled(self, step: int, steps: int) -> bool:
        return 2 * (step + self.every) > steps

    def masks(self, context: Any) -> Any:
        from trainables.pruning.topk import highest

        left = {
            name: highest(context.params[name].abs(), self.left(int(mask.sum())), mask)
            for name, mask in context.masks.items()
            if mask.dim() > 1
        }
        return {**context.masks, **left}

    def left(self, living: int) -> int:
        """Return how many of a layer's weights stay."""
        return living - round(self.share * living)


MASK_UPDATES.register("fade_of_test", Fade)
