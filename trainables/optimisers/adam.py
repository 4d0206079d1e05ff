"""Adam, with weight decay in the gradient or beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainables.optimisers.base import Optimiser, Params, eager

if TYPE_CHECKING:
    import torch


class Adam(Optimiser):
    """Adam; weight decay is added to the gradient."""

    entrywise: ClassVar[bool] = True
    kind: Literal["adam"] = "adam"
    lr: float = Field(default=1e-3, gt=0, description="the highest learning rate; the schedule multiplies it")

    def build(self, params: Params) -> torch.optim.Optimizer:
        import torch

        return eager(torch.optim.Adam)(params, lr=self.lr, weight_decay=self.weight_decay, fused=True)


class AdamW(Optimiser):
    """Adam with decoupled weight decay."""

    entrywise: ClassVar[bool] = True
    kind: Literal["adamw"] = "adamw"
    lr: float = Field(default=1e-3, gt=0, description="the highest learning rate; the schedule multiplies it")
    weight_decay: float = Field(default=1e-2, ge=0, description="weight decay of all parameters")

    def build(self, params: Params) -> torch.optim.Optimizer:
        import torch

        return eager(torch.optim.AdamW)(params, lr=self.lr, weight_decay=self.weight_decay, fused=True)
