"""Sparse robust networks by iterative magnitude pruning with adversarial training."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainables.core.spec import located
from trainables.method.phases import Measure, Phase, Prune, Rewind, Train
from trainables.method.training import Training
from trainables.pruning import PRUNERS, Pruning
from trainables.pruning.base import Pruner
from trainables.pruning.rates import Rates
from trainables.pruning.scores import Magnitude
from trainables.recipes.base import PUBLISHED_TRAINING, Recipe, check_rounds, check_warmups, ladder

PUBLISHED: dict[str, Any] = {
    "batch": 60,
    "optimiser": {"kind": "adam", "lr": 1.2e-3},
    "schedule": "constant",
    "loss": {"kind": "mix", "weight": 0.5},
    "attack": {"kind": "pgd", "steps": 10, "step_size": 1 / 6},
    "eps": 0.3,
    "label_smoothing": 0.1,
    "attack_labels": "predicted",
    "precision": "fp32",
}
"""The paper's training against PGD, in steps of 0.05; label smoothing and predicted labels are those of its code."""


class Cosentino2019(Recipe):
    """Train adversarially, prune every layer by a share of its remaining weights, rewind, train again, and repeat.

    There are as many rounds as 1 - (1 - rate)^i needs to reach `sparsity`. All but the last prune by the rates alone;
    the last prunes to `sparsity`, in the same proportions.
    Source: Cosentino, Zaiter, Pei & Zhu 2019, "The Search for Sparse, Robust Neural Networks", and its code.
    """

    published: ClassVar[dict[str, Any]] = PUBLISHED
    kind: Literal["cosentino2019"] = "cosentino2019"
    sparsity: float = Field(default=0.831, ge=0, lt=1, description="sparsity of the last measured network")
    epochs: int = Field(default=60, gt=0, description="epochs of each training")
    train: Training = Field(default=Training.model_validate(PUBLISHED), description=PUBLISHED_TRAINING)
    rate: float = Field(default=0.2, gt=0, lt=1, description="share of its remaining weights that a layer loses")
    last_rate: float = Field(default=0.1, ge=0, lt=1, description="the same share of the last layer")
    one_more: bool = Field(default=True, description="prune one weight more in each layer, as the paper's code does")
    rewind: Literal["init", "dense_trained", "random", "none"] = Field(
        default="init",
        description="weights after a pruning: init: the initial ones, `original` in the paper; dense_trained: "
        "those of the first training, as its code does under that name; random: new ones; none: the pruned ones",
    )
    pruner: Annotated[Pruner, PRUNERS] = Field(default=Magnitude(), description="the pruner; `random` is a control")
    retrain: tuple[Annotated[int, Field(gt=0)], ...] | None = Field(
        default=None,
        description="rounds after which the network is trained and measured, besides the last; null: all, as published",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_warmups(self.train, self.epochs)
        check_rounds(self.rate, self.sparsity)
        if self.retrain is not None and sorted(set(self.retrain)) != list(self.retrain):
            raise located("rounds must be in ascending order", "retrain", value=self.retrain)
        return self

    def levels(self) -> tuple[float, ...]:
        """Return the sparsity of each round: nominal, but for the last."""
        return ladder(self.rate, self.sparsity)

    def phases(self) -> tuple[Phase, ...]:
        train = Train(epochs=self.epochs, training=self.train)
        phases: list[Phase] = [train, Measure(stands_for={"sparsity": 0.0})]
        levels = self.levels()
        for number, sparsity in enumerate(levels, start=1):
            last = number == len(levels)
            rates = Rates(rate=self.rate, last=self.last_rate, one_more=self.one_more, exact=last)
            settings = Pruning(pruner=self.pruner, scope="layerwise")
            phases.append(Prune(sparsity=sparsity, pruning=settings, rates=rates))
            if last or self.retrain is None or number in self.retrain:
                phases += [] if self.rewind == "none" else [Rewind(to=self.rewind)]
                phases += [train, Measure(stands_for={"sparsity": sparsity})]
        return tuple(phases)
