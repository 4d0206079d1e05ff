"""What recipes that train a pruned network on have in common."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from trainables.core.spec import located
from trainables.method.training import Training
from trainables.recipes.base import Recipe


class FineTuned(Recipe):
    """Base of recipes with a training after a cut: as the first, without its warm-ups, perhaps with one of its own."""

    finetune_length: ClassVar[str] = "finetune_epochs"
    """The field with the epochs of this training."""
    finetune_eps_warmup: float = Field(
        default=0.0,
        ge=0,
        description="epochs over which the radius rises linearly from 0 in the training after a cut: a network that "
        "a cut has thrown far back may learn nothing within the full radius",
    )

    @model_validator(mode="after")
    def _finetune_warmup_fits(self) -> Self:
        epochs, warmup = getattr(self, self.finetune_length), self.finetune_eps_warmup
        if 0 < epochs < warmup:
            message = f"a warm-up of {warmup:g} epochs exceeds the training of {epochs} epochs"
            raise located(message, "finetune_eps_warmup", value=warmup)
        return self

    def finetuning(self, lr: float | None) -> Training:
        """Return the training after a cut, at another learning rate if one is given."""
        return tuned(self.train, lr).model_copy(update={"eps_warmup": self.finetune_eps_warmup})


def tuned(training: Training, lr: float | None) -> Training:
    """Return a later training: without warm-ups, and at another learning rate if one is given."""
    schedule = training.schedule.model_copy(update={"warmup": 0.0})
    update: dict[str, object] = {"schedule": schedule, "eps_warmup": 0.0, "natural_epochs": 0, "awp_warmup": 0.0}
    if lr is not None:
        update["optimiser"] = training.optimiser.model_copy(update={"lr": lr})
    return training.model_copy(update=update)
