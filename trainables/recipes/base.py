"""What a recipe is: hyperparameters that expand to phases."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from trainables.core.spec import Spec, located
from trainables.method.phases import Phase
from trainables.method.training import Training
from trainables.pruning import Pruning


class Recipe(Spec):
    """Base of every recipe. `sparsity` is what the last measured network is to have.

    What `train` does not name is as in `published`, for a recipe that has it.
    """

    published: ClassVar[dict[str, Any]] = {}
    kind: str
    sparsity: float = Field(default=0.9, ge=0, lt=1)
    epochs: int = Field(default=30, gt=0)
    train: Training = Training()

    @field_validator("train", mode="before")
    @classmethod
    def _as_published(cls, value: Any) -> Any:
        return {**cls.published, **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _structure_gives_every_sparsity(self) -> Self:
        pruning = getattr(self, "prune", None)
        if isinstance(pruning, Pruning) and pruning.pattern:
            self.phases()  # Each pruning checks its own.
        return self

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """Return the steps after initialisation."""


def ladder(rate: float, sparsity: float) -> tuple[float, ...]:
    """Return the sparsities 1 - (1 - rate)^i below `sparsity`, and it; nothing where it is 0."""
    rungs: list[float] = []
    while (rung := 1 - (1 - rate) ** (len(rungs) + 1)) < sparsity - 1e-9:
        rungs.append(round(rung, 6))
    return (*rungs, sparsity) if sparsity else ()


def check_warmups(training: Training, epochs: int) -> None:
    """Refuse a warm-up that is longer than the training it warms up.

    Raises:
        pydantic.ValidationError: names the field and both lengths.
    """
    lengths: dict[tuple[str, ...], float] = {
        ("schedule", "warmup"): training.schedule.warmup,
        ("eps_warmup",): training.eps_warmup,
        ("natural_epochs",): training.natural_epochs,
        ("awp_warmup",): training.awp_warmup,
    }
    for field, length in lengths.items():
        if length > epochs:
            message = f"a warm-up of {length:g} epochs exceeds the training of {epochs} epochs"
            raise located(message, "train", *field, value=length)


def tuned(training: Training, lr: float | None) -> Training:
    """Return the training of a fine-tuning: without warm-ups, and at another learning rate if one is given."""
    schedule = training.schedule.model_copy(update={"warmup": 0.0})
    update: dict[str, object] = {"schedule": schedule, "eps_warmup": 0.0, "natural_epochs": 0, "awp_warmup": 0.0}
    if lr is not None:
        update["optimiser"] = training.optimiser.model_copy(update={"lr": lr})
    return training.model_copy(update=update)
