"""TwinRep: adversarial training of weights that are products of two factors, pruned once during it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainables.core.spec import located
from trainables.method.phases import Measure, Phase, Prune, Train
from trainables.method.training import Training
from trainables.pruning import Pruning
from trainables.recipes.base import PUBLISHED_TRAINING, Recipe, check_warmups
from trainables.reparametrisations.base import Plain
from trainables.reparametrisations.twin import Twin

PUBLISHED: dict[str, Any] = {
    "optimiser": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 2e-4},
    "schedule": {"kind": "step", "at": [0.7, 0.85]},
    "attack": {"kind": "pgd", "steps": 10, "step_size": 0.25},
    "eps": 0.031,
    "precision": "fp32",
}
"""The training of the paper's code."""


class TwinRep(Recipe):
    """Train products of two factors, prune the smallest products during the training; the products are the result.

    The learning-rate schedule continues over the pruning; that the optimiser's momentum starts anew is our choice. All
    sparsities share the epochs before it.
    Source: Li et al. 2023, "Learning Adversarially Robust Sparse Networks via Weight Reparameterization" (AAAI), and
    its code.
    """

    published: ClassVar[dict[str, Any]] = PUBLISHED
    kind: Literal["twin_rep"] = "twin_rep"
    epochs: int = Field(default=100, gt=0, description="epochs of the training")
    train: Training = Field(default=Training.model_validate(PUBLISHED), description=PUBLISHED_TRAINING)
    prune_epoch: int = Field(default=10, gt=0, description="epoch after which the network is pruned")
    init: Literal["kaiming_uniform", "ones"] = Field(
        default="kaiming_uniform", description="initial value of the second factor"
    )
    factors: bool = Field(
        default=True, description="train products of two factors; false: the weights themselves, a control"
    )
    prune: Pruning = Field(default=Pruning(), description="how it is pruned")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_warmups(self.train, self.epochs)
        if self.prune_epoch >= self.epochs:
            message = f"epoch {self.prune_epoch} is not before the end of a training of {self.epochs} epochs"
            raise located(message, "prune_epoch", value=self.prune_epoch)
        if self.factors and self.prune.rescale:
            raise located("the factors are trained on as they were", "prune", "rescale", value=True)
        return self

    def phases(self) -> tuple[Phase, ...]:
        kept, folded = (Twin(init=self.init, fold=fold) if self.factors else Plain() for fold in (False, True))
        whole = Train(epochs=self.epochs, training=self.train, weights=folded)
        if not self.sparsity:
            return (whole, Measure())
        first = whole.model_copy(update={"until": self.prune_epoch, "weights": kept})
        rest = whole.model_copy(update={"start": self.prune_epoch})
        return (first, Prune(sparsity=self.sparsity, pruning=self.prune), rest, Measure())
