"""HARP: the mask and the layers' densities are learned together."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from trainables.method.phases import Train
from trainables.method.training import Training
from trainables.pruning import Pruning
from trainables.recipes import learned
from trainables.recipes.base import PENALTY_STEPS, PUBLISHED_TRAINING
from trainables.recipes.learned import Learned
from trainables.reparametrisations.base import Reparametrisation
from trainables.reparametrisations.learned import Rated

PUBLISHED: dict[str, Any] = {
    **learned.PUBLISHED,
    "optimiser": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "loss": "madry",
}
"""The training of its code, which builds on HYDRA's: adversarial images alone, and more weight decay."""

PRUNE_EPOCHS = 20
"""The published epochs in which mask and densities are learned, 391 steps each."""


class Harp(Learned):
    """As HYDRA, with a trained density for each layer that a growing penalty brings to the budget.

    In a search of other length the penalty grows as much, and pulls as long: `gamma` is that of 20 epochs.
    Source: Zhao & Wressnegger 2023, "Holistic Adversarially Robust Pruning" (ICLR), and its code.
    """

    published: ClassVar[dict[str, Any]] = PUBLISHED
    kind: Literal["harp"] = "harp"
    train: Training = Field(default=Training.model_validate(PUBLISHED), description=PUBLISHED_TRAINING)
    structure: Literal["unstructured", "filter"] = Field(default="unstructured", description="prune weights or filters")
    counts: Literal["weights", "macs"] = Field(default="weights", description="what the budget counts")
    least: float = Field(default=0.1, gt=0, lt=1, description="as of the weights `rated`")
    begin: float = Field(default=0.1, gt=0, lt=1, description="as of the weights `rated`")
    gamma: float = Field(
        default=0.01, ge=0, description="weight of the penalty, times the epoch in a search of 20 epochs"
    )
    penalty_steps: int | None = Field(default=PRUNE_EPOCHS * 391, gt=0, description=PENALTY_STEPS)

    def search(self) -> Reparametrisation:
        return Rated(
            sparsity=self.sparsity,
            layers=self.layers,
            s2ap=self.s2ap,
            s2ap_warmup=self.s2ap_warmup,
            structure=self.structure,
            counts=self.counts,
            least=self.least,
            begin=self.begin,
            gamma=self.gamma * PRUNE_EPOCHS / self.prune_epochs,
            train_rest=self.train_rest,
        )

    def learning(self) -> Train:
        return super().learning().model_copy(update={"penalty_steps": self.penalty_steps})

    def cut(self) -> Pruning:
        return Pruning(structure=self.structure)
