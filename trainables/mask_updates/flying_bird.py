"""Flying Bird: dynamic sparse training under attack."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from trainables.mask_updates.base import Rewiring


class FlyingBird(Rewiring):
    """Every `every` steps drop a layer's smallest weights and let as many grow, from 0; one that grows
    where it was just dropped goes on as it was.

    The share that is dropped falls from `drop` to `final_drop` with half a cosine over the training, and nothing is
    rewired after the share `until` of it. What grows is where the loss's gradient is largest, or drawn at random, which
    is the default of the authors' code. Layers that are dense stay so.

    With `plus` the number of weights may change, after the share `plus_from` of the training, by the epochs just before
    a rewiring (`window` of them): if the gap between robust accuracy in training and on the images held back
    (`train.select`) rose in at least half of them, `extra_drop` times as many again are dropped and none grow for them;
    if the loss on those rose in at least half, `extra_growth` times more grow.

    Source: Chen et al. 2022, "Sparsity winning twice", arXiv:2202.09844 §3, and its code, for all defaults but `grow`.
    """

    kind: Literal["flying_bird"] = "flying_bird"
    every: int = Field(default=900, gt=0)
    drop: float = Field(default=0.5, gt=0, lt=1)
    final_drop: float = Field(default=0.005, ge=0, lt=1)
    until: float = Field(default=1.0, gt=0, le=1)
    grow: Literal["gradient", "random"] = "gradient"
    plus: bool = False
    plus_from: float = Field(default=0.5, ge=0, le=1)
    window: int = Field(default=4, gt=0)
    extra_drop: float = Field(default=0.4, ge=0)
    extra_growth: float = Field(default=0.05, ge=0)

    def due(self, step: int, steps: int) -> bool:
        return step % self.every == 0 and step <= self.until * steps and step < steps

    def share(self, step: int, steps: int) -> float:
        """Return the share of a layer's weights to drop after a step."""
        return self.final_drop + (self.drop - self.final_drop) * (1 + math.cos(math.pi * step / steps)) / 2
