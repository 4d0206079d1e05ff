"""Robust sparse regularisation: noise on the weights, lasso, adversarial training, and one threshold at the end."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainables.method.phases import Measure, Phase, Prune, Threshold, Train
from trainables.method.training import Training
from trainables.pruning import Pruning
from trainables.recipes.base import PUBLISHED_TRAINING, Recipe, check_warmups, tuned
from trainables.reparametrisations import REPARAMETRISATIONS
from trainables.reparametrisations.base import Reparametrisation
from trainables.reparametrisations.noise import Noise

PUBLISHED: dict[str, Any] = {
    "batch": 128,
    "optimiser": {"kind": "sgd", "lr": 0.1, "nesterov": True, "weight_decay": 3e-4},
    "schedule": "step",
    "loss": {"kind": "mix", "weight": 0.5},
    "attack": {"kind": "pgd", "steps": 7, "step_size": 0.01 / 0.031},
    "eps": 0.031,
    "attack_labels": "predicted",
}
"""The training of the authors' code for the noise that the paper builds on; we take the paper's to be the same."""


class Rakin2019(Recipe):
    """Train with noise on the weights and a lasso, prune the small weights of all layers at once, perhaps fine-tune.

    The paper's four-way ablation is `weights` (noise or plain) times `train.regularisers.l1` (its lasso, whose weight
    we do not know). We also do not know whether it prunes to a sparsity or below a threshold, and whether it
    fine-tunes; by default this recipe prunes to a sparsity and does not. The dense network is a measured point. The
    published epochs are 160.
    Source: Rakin et al. 2019, arXiv:1905.13074; training: code of He et al. 2019, arXiv:1811.09310.
    """

    published: ClassVar[dict[str, Any]] = PUBLISHED
    kind: Literal["rakin2019"] = "rakin2019"
    train: Training = Field(default=Training.model_validate(PUBLISHED), description=PUBLISHED_TRAINING)
    weights: Annotated[Reparametrisation, REPARAMETRISATIONS] = Field(
        default=Noise(), description="the reparametrisation of the weights"
    )
    threshold: float | None = Field(
        default=None, gt=0, description="absolute value below which weights are pruned; null: prune to `sparsity`"
    )
    prune: Pruning = Field(default=Pruning(), description="how it is pruned to `sparsity`")
    finetune_epochs: int = Field(default=0, ge=0, description="epochs of the fine-tuning")
    finetune_lr: float | None = Field(
        default=None, gt=0, description="learning rate of the fine-tuning; null: that of the training"
    )

    @model_validator(mode="after")
    def _warmups_fit(self) -> Self:
        check_warmups(self.train, self.epochs)
        return self

    def phases(self) -> tuple[Phase, ...]:
        dense = Train(epochs=self.epochs, training=self.train, weights=self.weights)
        # Only the recipe that cuts to a budget has a trial whose last network this is.
        phases: list[Phase] = [dense, Measure(stands_for={"sparsity": 0.0, "threshold": None})]
        if not self.sparsity and self.threshold is None:
            return tuple(phases)
        if self.threshold is None:
            phases.append(Prune(sparsity=self.sparsity, pruning=self.prune))
        else:
            phases.append(Threshold(below=self.threshold))
        if self.finetune_epochs:
            tuning = tuned(self.train, self.finetune_lr)
            phases.append(Train(epochs=self.finetune_epochs, training=tuning, weights=self.weights))
        return (*phases, Measure())
