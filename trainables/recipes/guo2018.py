"""Sparse networks that were never trained adversarially, and what their sparsity does to robustness."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainables.method.phases import Measure, Phase, Prune, Train
from trainables.method.training import Training
from trainables.pruning import Pruning
from trainables.recipes.base import Recipe, check_warmups, ladder, tuned

NATURAL: dict[str, Any] = {"loss": "natural", "optimiser": {"kind": "sgd", "lr": 0.05}}
"""Our default: the paper trains naturally; its optimiser and rates are not known to us."""


class Guo2018(Recipe):
    """Train naturally, then prune `rate` of what is left and train on, until `sparsity` is reached.

    Every round is a measured point. Rounds train for `retrain_epochs`, at `retrain_lr` (None: that of the training),
    without warm-ups. `prune` says what is cut and whether globally; its pruner `random` is a control. The ladder of
    halvings, and all numbers, are our defaults: the paper's schedule is not known to us. What `train` does not name is
    `NATURAL`; sparse activations are `train.activation_l1` and the model's `active`.
    Source: Guo, Zhang, Zhang & Chen 2018, "Sparse DNNs with Improved Adversarial Robustness", arXiv:1810.09619.
    """

    published: ClassVar[dict[str, Any]] = NATURAL
    kind: Literal["guo2018"] = "guo2018"
    train: Training = Training.model_validate(NATURAL)
    rate: float = Field(default=0.5, gt=0, lt=1)
    retrain_epochs: int = Field(default=15, gt=0)
    retrain_lr: float | None = Field(default=None, gt=0)
    prune: Pruning = Pruning()

    @model_validator(mode="after")
    def _warmups_fit(self) -> Self:
        check_warmups(self.train, self.epochs)
        return self

    def phases(self) -> tuple[Phase, ...]:
        again = tuned(self.train, self.retrain_lr)
        steps: list[Phase] = [Train(epochs=self.epochs, training=self.train), Measure(stands_for={"sparsity": 0.0})]
        for sparsity in ladder(self.rate, self.sparsity):
            steps.append(Prune(sparsity=sparsity, pruning=self.prune))
            steps += [Train(epochs=self.retrain_epochs, training=again), Measure(stands_for={"sparsity": sparsity})]
        return tuple(steps)
