"""Guo et al. 2018: the robustness of sparse networks that are trained naturally."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainables.mask_updates.gradual import check_pruning
from trainables.mask_updates.splicing import Splicing
from trainables.method.phases import Measure, Phase, Prune, Train
from trainables.method.training import Training
from trainables.pruning import Pruning
from trainables.recipes.base import check_rounds, check_warmups, ladder
from trainables.recipes.finetuned import FineTuned

NATURAL: dict[str, Any] = {
    "loss": "natural",
    "optimiser": {"kind": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
    "precision": "fp32",
}
"""Our default: the paper trains naturally; we do not know its optimiser, rates and weight decay."""


class Guo2018(FineTuned):
    """Train naturally, then prune `rate` of the remaining weights and train again, until `sparsity` is reached.

    Every round is a measured point. The schedule of prunings, and all numbers, are our defaults: we do not know the
    paper's. For sparse activations set `train.activation_l1` and the model's `active`.
    Source: Guo, Zhang, Zhang & Chen 2018, "Sparse DNNs with Improved Adversarial Robustness", arXiv:1810.09619.
    """

    published: ClassVar[dict[str, Any]] = NATURAL
    places: ClassVar[dict[str, tuple[str, ...]]] = {**FineTuned.places, "rewiring": ("retrain_epochs",)}
    finetune_length: ClassVar[str] = "retrain_epochs"
    kind: Literal["guo2018"] = "guo2018"
    train: Training = Field(
        default=Training.model_validate(NATURAL), description="the training; what is not set is natural training by SGD"
    )
    rate: float = Field(default=0.5, gt=0, lt=1, description="share of the remaining weights that a round prunes")
    retrain_epochs: int = Field(default=15, gt=0, description="epochs of the training after a pruning")
    retrain_lr: float | None = Field(
        default=None, gt=0, description="learning rate of these trainings; null: that of the first"
    )
    splice: bool = Field(
        default=False,
        description="prune within the training after a pruning, by the mask update `splicing`: what was pruned may "
        "return, as in dynamic network surgery, by the same first author",
    )
    prune: Pruning = Field(default=Pruning(), description="how it is pruned; the pruner `random` is a control")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_warmups(self.train, self.epochs)
        check_rounds(self.rate, self.sparsity)
        if self.splice:
            check_pruning(self.prune, "prune")
        return self

    def phases(self) -> tuple[Phase, ...]:
        again = Train(epochs=self.retrain_epochs, training=self.finetuning(self.retrain_lr))
        phases: list[Phase] = [Train(epochs=self.epochs, training=self.train), Measure(stands_for={"sparsity": 0.0})]
        for sparsity in ladder(self.rate, self.sparsity):
            if self.splice:
                within = Splicing(sparsity=sparsity, pruning=self.prune)
                phases.append(again.model_copy(update={"rewiring": within}))
            else:
                phases += [Prune(sparsity=sparsity, pruning=self.prune), again]
            phases.append(Measure(stands_for={"sparsity": sparsity}))
        return tuple(phases)
