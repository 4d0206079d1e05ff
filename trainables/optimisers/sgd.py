"""Stochastic gradient descent."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainables.optimisers.base import Optimiser, Params, eager

if TYPE_CHECKING:
    import torch


class Sgd(Optimiser):
    """Stochastic gradient descent with momentum."""

    entrywise: ClassVar[bool] = True
    kind: Literal["sgd"] = "sgd"
    lr: float = Field(default=0.1, gt=0, description="the highest learning rate; the schedule multiplies it")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum; 0 for none")
    nesterov: bool = Field(default=False, description="Nesterov momentum; needs a momentum above 0")
    weight_decay: float = Field(default=5e-4, ge=0, description="weight decay of all parameters")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    def build(self, params: Params) -> torch.optim.Optimizer:
        import torch

        return eager(torch.optim.SGD)(
            params,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            fused=True,
        )
