"""Train, prune once, fine-tune."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from trainables.phases import Measure, Phase, Prune, Train
from trainables.pruning import Pruning
from trainables.recipes.base import Recipe, check_warmups


class ThreeStage(Recipe):
    """Train the dense network, prune it in one shot, fine-tune what is left.

    The dense network is a measured point too. `finetune_lr` None keeps the learning rate of the
    dense training. Source: Han et al. 2015, arXiv:1506.02626 §3.
    """

    kind: Literal["three_stage"] = "three_stage"
    finetune_epochs: int = Field(default=15, ge=0)
    finetune_lr: float | None = Field(default=None, gt=0)
    prune: Pruning = Pruning()

    @model_validator(mode="after")
    def _warmups_fit(self) -> Self:
        check_warmups(self.train, self.epochs)
        return self

    def phases(self) -> tuple[Phase, ...]:
        dense = (Train(epochs=self.epochs, training=self.train), Measure(stands_for={"sparsity": 0.0}))
        if not self.sparsity:
            return dense
        finetune = self.train.model_copy(
            update={"schedule": self.train.schedule.model_copy(update={"warmup": 0.0}), "eps_warmup": 0.0}
        )
        if self.finetune_lr is not None:
            optimiser = self.train.optimiser.model_copy(update={"lr": self.finetune_lr})
            finetune = finetune.model_copy(update={"optimiser": optimiser})
        tuned = (Train(epochs=self.finetune_epochs, training=finetune),) if self.finetune_epochs else ()
        return (*dense, Prune(sparsity=self.sparsity, pruning=self.prune), *tuned, Measure())
