"""Flying Bird: dynamic sparse training under attack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.core.amounts import Interval, amount
from trainables.core.spec import located
from trainables.mask_updates.base import MaskUpdate, MaskUpdateContext

if TYPE_CHECKING:
    from torch import Tensor


class FlyingBird(MaskUpdate):
    """Drop each layer's smallest weights at intervals and grow as many elsewhere, from 0.

    A weight that grows where it was just dropped keeps its value. The share that is dropped falls with half a cosine
    over the training; with `drop` and `final_drop` 0 the masks stay, a control. Dense layers stay dense.

    With `plus` the number of weights follows the training: if the gap between robust accuracy on the images trained on
    and on those held back (`train.select`) rose in at least half of the last `window` epochs, more are dropped than
    grow; if the loss on those held back rose in at least half, more grow than are dropped.

    Source: Chen et al. 2022, "Sparsity winning twice", arXiv:2202.09844, and its code, for all defaults but `grow`.
    """

    kind: Literal["flying_bird"] = "flying_bird"
    every: Interval = Field(
        default=900, description="steps between two updates; below 1, a share of the steps of the training"
    )
    drop: float = Field(default=0.5, ge=0, lt=1, description="share of a layer's weights dropped at first")
    final_drop: float = Field(default=0.005, ge=0, lt=1, description="share dropped at the end")
    until: float = Field(default=1.0, gt=0, le=1, description="share of the training after which masks stay")
    grow: Literal["gradient", "random"] = Field(
        default="gradient", description="grow where the gradient is largest, or at random as in the authors' code"
    )
    plus: bool = Field(default=False, description="let the number of weights follow the training; needs train.select")
    plus_from: float = Field(default=0.5, ge=0, le=1, description="share of the training after which it may")
    window: int = Field(default=4, gt=0, description="epochs that are compared")
    extra_drop: float = Field(default=0.4, ge=0, description="extra share of the dropped where the gap rose")
    extra_growth: float = Field(default=0.05, ge=0, description="extra share of the grown where the loss rose")

    @property
    def needs_held_back_images(self) -> bool:
        return self.plus

    def due(self, step: int, steps: int) -> bool:
        return step % amount(self.every, steps) == 0 and step <= self.until * steps and step < steps

    def check_length(self, steps: int, epochs: int) -> None:
        every = amount(self.every, steps)
        last = min(steps - 1, math.floor(self.until * steps)) // every * every
        if last <= 0:
            message = f"no exchange comes due in a training of {steps} steps; set a share of them, such as 0.0128"
            raise located(message, "every", value=self.every)
        # Within an epoch the results of those before it are known.
        known = (last - 1) * epochs // steps
        if self.plus and (known <= self.window or last < self.plus_from * steps):
            message = (
                f"plus never comes due in a training of {epochs} epochs: at the last exchange {known} of them are "
                f"known, and {self.window + 1} are compared"
            )
            raise located(message, "window", value=self.window)

    def share(self, step: int, steps: int) -> float:
        """Return the share of a layer's weights to drop after a step."""
        return self.final_drop + (self.drop - self.final_drop) * (1 + math.cos(math.pi * step / steps)) / 2

    def masks(self, context: MaskUpdateContext) -> dict[str, Tensor]:
        from trainables.pruning.topk import highest

        share = self.share(context.step, context.steps)
        overfits = learns_ill = False
        if self.plus and context.step >= self.plus_from * context.steps:
            overfits = rises([result.trained - result.robust for result in context.results], self.window)
            learns_ill = rises([result.loss for result in context.results], self.window)
        masks = dict(context.masks)
        for name, gradient in context.gradients.items():
            mask = masks[name]
            living = int(mask.sum())
            if living in (0, mask.numel()):
                continue
            dropped = round(share * living)
            grown = dropped + (round(self.extra_growth * dropped) if learns_ill else 0)
            lost = min(living, dropped + (round(self.extra_drop * dropped) if overfits else 0))
            left = highest(context.params[name].detach().abs(), living - lost, mask)
            masks[name] = left | highest(self._priority(gradient, context), grown, ~left)
        return masks

    def _priority(self, gradient: Tensor, context: MaskUpdateContext) -> Tensor:
        """Return what pruned weights of a layer grow by, highest first, shaped like its `gradient`."""
        import torch

        if self.grow == "gradient":
            return gradient.abs()
        draws = context.generator
        return torch.rand(gradient.shape, generator=draws, device=draws.device).to(gradient.device)


def rises(values: Sequence[float], window: int) -> bool:
    """Return whether a series rose in at least half of its last `window` steps; False while it has fewer."""
    if len(values) <= window:
        return False
    last = values[-window - 1 :]
    return 2 * sum(after > before for before, after in pairwise(last)) >= window
