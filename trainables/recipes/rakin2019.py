"""Robust sparse regularisation: noise on the weights, lasso, adversarial training, and one threshold at the end."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from trainables.method.phases import Measure, Phase, Prune, Threshold, Train
from trainables.method.training import Training
from trainables.pruning import Pruning
from trainables.recipes.base import PENALTY_STEPS, PUBLISHED_TRAINING, check_warmups
from trainables.recipes.finetuned import FineTuned
from trainables.reparametrisations import REPARAMETRISATIONS
from trainables.reparametrisations.base import Reparametrisation
from trainables.reparametrisations.noise import Noise

PUBLISHED: dict[str, Any] = {
    "batch": 128,
    "optimiser": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 3e-4},
    "schedule": "step",
    "loss": {"kind": "mix", "weight": 0.5},
    "attack": {"kind": "pgd", "steps": 7, "step_size": 0.01 / 0.031},
    "eps": 0.031,
    "attack_labels": "predicted",
    "natural_epochs": 5,  # of 160
    "precision": "fp32",
}
"""The training of the authors' code for the noise that the paper builds on; we take the paper's to be the same."""


class Rakin2019(FineTuned):
    """Train with noise on the weights and a lasso, prune the small weights of all layers at once, perhaps fine-tune.

    The paper's four-way ablation is `weights` (noise or plain) times `train.regularisers.l1` (its lasso, whose weight
    we do not know). We also do not know whether it prunes to a sparsity or below a threshold, and whether it
    fine-tunes; by default this recipe prunes to a sparsity and does not. The dense network is a measured point.
    Source: Rakin et al. 2019, arXiv:1905.13074; training: code of He et al. 2019, arXiv:1811.09310.
    """

    published: ClassVar[dict[str, Any]] = PUBLISHED
    kind: Literal["rakin2019"] = "rakin2019"
    epochs: int = Field(default=160, gt=0, description="epochs of the first training")
    train: Training = Field(default=Training.model_validate(PUBLISHED), description=PUBLISHED_TRAINING)
    penalty_steps: int | None = Field(default=160 * 391, gt=0, description=PENALTY_STEPS)
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

    @field_validator("train", mode="before")
    @classmethod
    def _natural_in_proportion(cls, value: Any, info: ValidationInfo) -> Any:
        natural = {"natural_epochs": round(info.data.get("epochs", 160) * 5 / 160)}
        if isinstance(value, dict):
            return {**cls.published, **natural, **value}
        return value.model_copy(update=natural) if value == cls.model_fields["train"].default else value

    @model_validator(mode="after")
    def _warmups_fit(self) -> Self:
        check_warmups(self.train, self.epochs)
        return self

    def phases(self) -> tuple[Phase, ...]:
        train = Train(epochs=self.epochs, training=self.train, weights=self.weights, penalty_steps=self.penalty_steps)
        # Only the recipe that cuts to a budget has a trial whose last network this is.
        phases: list[Phase] = [train, Measure(stands_for={"sparsity": 0.0, "threshold": None})]
        if not self.sparsity and self.threshold is None:
            return tuple(phases)
        if self.threshold is None:
            phases.append(Prune(sparsity=self.sparsity, pruning=self.prune))
        else:
            phases.append(Threshold(below=self.threshold))
        if self.finetune_epochs:
            tuning: dict[str, Any] = {"epochs": self.finetune_epochs, "training": self.finetuning(self.finetune_lr)}
            phases.append(train.model_copy(update={**tuning, "penalty_steps": self._tuning_steps()}))
        return (*phases, Measure())

    def _tuning_steps(self) -> int | None:
        """Return `penalty_steps` of the fine-tuning, with which its lasso is as strong as that of the training."""
        if self.penalty_steps is None:
            return None
        return max(1, round(self.penalty_steps * self.finetune_epochs / self.epochs))
