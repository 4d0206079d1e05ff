"""Masking adversarial damage: one cut by second-order saliency on adversarial images."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from trainables.core.registry import reading_opaque
from trainables.core.spec import located
from trainables.method.training import Training
from trainables.pruning import Pruning
from trainables.pruning.mad import Mad as Saliency
from trainables.recipes.base import PUBLISHED_TRAINING
from trainables.recipes.three_stage import ThreeStage

PUBLISHED: dict[str, Any] = {
    "optimiser": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 2e-4},
    "schedule": "step",
    "attack": {"kind": "pgd", "steps": 10, "step_size": 0.23},
    "eps": 0.03,
    "precision": "fp32",
}
"""The adversarial training of the authors' code: SGD, a tenth at 50 and 75 %, PGD-10 on adversarial images alone."""


class Mad(ThreeStage):
    """Train adversarially, prune by the pruner `mad` on images attacked as in the training, fine-tune.

    The 200 natural epochs that the code trains before are not part of this recipe.
    Source: Lee, Kim & Ro 2022, arXiv:2204.02738, and its code.
    """

    published: ClassVar[dict[str, Any]] = PUBLISHED
    kind: Literal["mad"] = "mad"  # type: ignore[assignment]
    epochs: int = Field(default=60, gt=0, description="epochs of the first training")
    train: Training = Field(default=Training.model_validate(PUBLISHED), description=PUBLISHED_TRAINING)
    finetune_epochs: int = Field(default=60, ge=0, description="epochs of the fine-tuning")
    prune: Pruning = Field(default=Pruning(pruner=Saliency()), description="how it is pruned")

    @field_validator("prune", mode="before")
    @classmethod
    def _by_saliency(cls, value: Any) -> Any:
        return {"pruner": "mad", **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _attack_of_the_training(self) -> Self:
        pruner = self.prune.pruner
        if reading_opaque():
            return self
        if not isinstance(pruner, Saliency):
            raise located("this recipe prunes by the pruner mad", "prune", "pruner", value=pruner.kind)
        for field in ("attack", "eps"):
            value = getattr(pruner, field)
            if value not in (Saliency.model_fields[field].default, getattr(self.train, field)):
                message = f"the pruner's images are attacked as in the training; set train.{field} instead"
                raise located(message, "prune", "pruner", field, value=value)
        return self

    def pruning(self) -> Pruning:
        pruner = self.prune.pruner.model_copy(update={"attack": self.train.attack, "eps": self.train.eps})
        return self.prune.model_copy(update={"pruner": pruner})
