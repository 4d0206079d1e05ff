"""The base of recipes: hyperparameters that expand to phases."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from trainables.core.spec import Spec, located
from trainables.method.phases import Phase
from trainables.method.training import Training
from trainables.pruning import Pruning

PUBLISHED_TRAINING = (
    "the training; what is not set is as published, without crops, flips and "
    "images held back (`select`), which suit the paper's data and not all"
)
"""Description of `train` in a recipe with `published` fields."""

PENALTY_STEPS = (
    "steps that the weights of penalties are meant for: they are multiplied by it over the steps of the training; "
    "null: they are taken as they are"
)
"""Description of `penalty_steps` in a recipe whose penalties pull weights as long as it trains."""


class Recipe(Spec):
    """Base of every recipe."""

    published: ClassVar[dict[str, Any]] = {}
    """Fields of the paper's training, from which a study's `train` starts."""
    places: ClassVar[dict[str, tuple[str, ...]]] = {"training": ("train",)}
    """Where the recipe has what its phases have as a field, where that is elsewhere."""
    kind: str
    sparsity: float = Field(default=0.9, ge=0, lt=1, description="sparsity of the last measured network")
    epochs: int = Field(default=30, gt=0, description="epochs of the first training")
    train: Training = Field(default=Training(), description="the training")

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
        """Return the phases after the initialisation."""


MAX_ROUNDS = 500
"""How many rounds of pruning a recipe may have: a rate of 0.01 reaches a sparsity of 0.99 in 459."""


def check_rounds(rate: float, sparsity: float) -> None:
    """Refuse a rate that takes more than `MAX_ROUNDS` rounds to `sparsity`, which are counted and not built.

    Raises:
        pydantic.ValidationError: names the rate.
    """
    rounds = math.log1p(-sparsity) / math.log1p(-rate) if 0 < rate < 1 else 0.0
    if rounds > MAX_ROUNDS:
        least = -math.expm1(math.log1p(-sparsity) / MAX_ROUNDS)
        message = (
            f"a rate of {rate:g} takes {rounds:.3g} rounds to a sparsity of {sparsity:g}; {MAX_ROUNDS} are allowed"
        )
        raise located(f"{message}: the rate must be at least {least:.2g}", "rate", value=rate)


def ladder(rate: float, sparsity: float) -> tuple[float, ...]:
    """Return the levels 1 - (1 - rate)^i below `sparsity`, and `sparsity`; none where it is 0.

    Raises:
        pydantic.ValidationError: they are more than `MAX_ROUNDS`.
    """
    check_rounds(rate, sparsity)
    levels: list[float] = []
    while (level := 1 - (1 - rate) ** (len(levels) + 1)) < sparsity - 1e-9:
        levels.append(round(level, 6))
    return (*levels, sparsity) if sparsity else ()


def check_warmups(training: Training, epochs: int) -> None:
    """Refuse a warm-up that is longer than the training it warms up, or all that comes before what never begins.

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
    begins = {
        "natural_epochs": ("the attack", training.natural_epochs if training.loss.attacks else 0),
        "awp_warmup": ("the perturbation of weights", training.awp_warmup if training.awp else 0),
    }
    for name, (what, length) in begins.items():
        if length >= epochs:
            message = f"{what} never begins: {length:g} epochs without it are all epochs of the training"
            raise located(message, "train", name, value=length)
