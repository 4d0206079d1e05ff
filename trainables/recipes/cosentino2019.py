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
from trainables.recipes.base import Recipe, check_warmups, ladder

PUBLISHED: dict[str, Any] = {
    "batch": 60,
    "optimiser": {"kind": "adam", "lr": 1.2e-3},
    "schedule": "constant",
    "loss": {"kind": "mix", "weight": 0.5},
    "attack": {"kind": "pgd", "steps": 10, "step_size": 1 / 6},
    "eps": 0.3,
    "label_smoothing": 0.1,
    "attack_labels": "predicted",
}
"""The paper's training against PGD, in steps of 0.05; label smoothing and predicted labels are those of its code."""


class Cosentino2019(Recipe):
    """Train adversarially, prune every layer by a share of what it has left, go back, train again, and so on.

    The share is `rate`, in the last layer `last_rate`, with `one_more` one weight more, as the paper's code has it.
    `sparsity` decides how many rounds there are: as many as 1 - (1 - rate)^i needs to reach it. All but the last cut by
    the rates alone, whatever that comes to in all; the last is cut to `sparsity`, by the same proportions.
    `retrain` names the rounds after which the network is trained and measured (the last always is); None, as in the
    paper, is each. `pruner` `random` is a control.

    `rewind` is the paper's strategy: `init` as it describes `original`, `dense_trained` what its code does under that
    name, `random`, and `none` for `continued`. What `train` does not name is as published (`PUBLISHED`).
    Source: Cosentino, Zaiter, Pei & Zhu 2019, "The Search for Sparse, Robust Neural Networks", and its code.
    """

    published: ClassVar[dict[str, Any]] = PUBLISHED
    kind: Literal["cosentino2019"] = "cosentino2019"
    sparsity: float = Field(default=0.831, ge=0, lt=1)
    epochs: int = Field(default=60, gt=0)
    train: Training = Training.model_validate(PUBLISHED)
    rate: float = Field(default=0.2, gt=0, lt=1)
    last_rate: float = Field(default=0.1, ge=0, lt=1)
    one_more: bool = True
    rewind: Literal["init", "dense_trained", "random", "none"] = "init"
    pruner: Annotated[Pruner, PRUNERS] = Magnitude()
    retrain: tuple[Annotated[int, Field(gt=0)], ...] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_warmups(self.train, self.epochs)
        if self.retrain is not None and sorted(set(self.retrain)) != list(self.retrain):
            raise located("rounds must be in ascending order", "retrain", value=self.retrain)
        return self

    def levels(self) -> tuple[float, ...]:
        """Return the sparsity of each round: nominal, but for the last."""
        return ladder(self.rate, self.sparsity)

    def phases(self) -> tuple[Phase, ...]:
        train = Train(epochs=self.epochs, training=self.train)
        steps: list[Phase] = [train, Measure(stands_for={"sparsity": 0.0})]
        levels = self.levels()
        for number, sparsity in enumerate(levels, start=1):
            last = number == len(levels)
            rates = Rates(rate=self.rate, last=self.last_rate, one_more=self.one_more, exact=last)
            settings = Pruning(pruner=self.pruner, scope="layerwise")
            steps.append(Prune(sparsity=sparsity, pruning=settings, rates=rates))
            if last or self.retrain is None or number in self.retrain:
                steps += [] if self.rewind == "none" else [Rewind(to=self.rewind)]
                steps += [train, Measure(stands_for={"sparsity": sparsity})]
        return tuple(steps)
