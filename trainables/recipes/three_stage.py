"""Train, prune once, fine-tune."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from trainables.method.phases import Measure, Phase, Prune, Train
from trainables.pruning import Pruning
from trainables.recipes.base import check_warmups
from trainables.recipes.finetuned import FineTuned


class ThreeStage(FineTuned):
    """Train the dense network, which is a measured point too, prune it in one shot, fine-tune.

    Source: Han et al. 2015, arXiv:1506.02626.
    """

    kind: Literal["three_stage"] = "three_stage"
    finetune_epochs: int = Field(default=15, ge=0, description="epochs of the fine-tuning")
    finetune_lr: float | None = Field(
        default=None, gt=0, description="learning rate of the fine-tuning; null: that of the training"
    )
    prune: Pruning = Field(default=Pruning(), description="how it is pruned")

    @model_validator(mode="after")
    def _warmups_fit(self) -> Self:
        check_warmups(self.train, self.epochs)
        return self

    def pruning(self) -> Pruning:
        """Return how it is pruned."""
        return self.prune

    def phases(self) -> tuple[Phase, ...]:
        dense = (Train(epochs=self.epochs, training=self.train), Measure(stands_for={"sparsity": 0.0}))
        if not self.sparsity:
            return dense
        finetune = Train(epochs=self.finetune_epochs, training=self.finetuning(self.finetune_lr))
        tuning = (finetune,) if self.finetune_epochs else ()
        return (*dense, Prune(sparsity=self.sparsity, pruning=self.pruning()), *tuning, Measure())
