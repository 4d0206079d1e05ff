"""What recipes that learn a mask share: a dense training, a search for the mask, a fine-tuning."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from trainables.method.phases import Measure, Phase, Prune, Train
from trainables.method.training import Training
from trainables.pruning import Pruning
from trainables.recipes.base import Recipe, check_warmups, tuned
from trainables.reparametrisations.base import Reparametrisation

PUBLISHED: dict[str, Any] = {
    "optimiser": {"kind": "sgd", "lr": 0.1, "weight_decay": 1e-4},
    "loss": {"kind": "trades", "beta": 6},
    "attack": {"kind": "pgd", "steps": 10, "step_size": 0.25},
}
"""The training of HYDRA's code, which HARP's builds on: TRADES, PGD-10 with steps of 2/255, SGD, a cosine from 0.1."""


class Learned(Recipe):
    """Train the dense network, learn which weights to keep while they are frozen, fine-tune those.

    The published epochs are 100, 20 and 100; every phase has a schedule of its own. `prune_lr` None is the training's
    learning rate, `finetune_lr` None a tenth of it, as published. All sparsities share the dense network, which is a
    measured point. Regularisers act on the trainings before and after: while the mask is learned, the weights that they
    would shrink are frozen.
    """

    published: ClassVar[dict[str, Any]] = PUBLISHED
    train: Training = Training.model_validate(PUBLISHED)
    prune_epochs: int = Field(default=6, gt=0)
    prune_lr: float | None = Field(default=None, gt=0)
    finetune_epochs: int = Field(default=30, ge=0)
    finetune_lr: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _warmups_fit(self) -> Self:
        check_warmups(self.train, self.epochs)
        return self

    @abstractmethod
    def search(self) -> Reparametrisation:
        """Return what is trained while the mask is learned."""

    def cut(self) -> Pruning:
        """Return what holds a learned mask to the budget, which it has."""
        return Pruning()

    def phases(self) -> tuple[Phase, ...]:
        dense = (Train(epochs=self.epochs, training=self.train), Measure(stands_for={"sparsity": 0.0}))
        if not self.sparsity:
            return dense
        lr = self.train.optimiser.lr / 10 if self.finetune_lr is None else self.finetune_lr
        found = Train(epochs=self.prune_epochs, training=tuned(self.train, self.prune_lr), weights=self.search())
        tuning = Train(epochs=self.finetune_epochs, training=tuned(self.train, lr))
        held = Prune(sparsity=self.sparsity, pruning=self.cut())
        return (*dense, found, held, *((tuning,) if self.finetune_epochs else ()), Measure())
