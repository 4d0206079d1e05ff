"""Flying Bird: dynamic sparse training."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from trainables.core.spec import located
from trainables.mask_updates.flying_bird import FlyingBird as Dynamics
from trainables.method.phases import Measure, Phase, Prune, Train
from trainables.method.training import Training
from trainables.pruning import Pruning
from trainables.pruning.densities import Igq
from trainables.pruning.scores import Random
from trainables.recipes.base import PUBLISHED_TRAINING, Recipe, check_warmups

PUBLISHED: dict[str, Any] = {
    "optimiser": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "schedule": "step",
    "attack": {"kind": "pgd", "steps": 10, "step_size": 0.25},
    "precision": "fp32",
}
"""The training of its code: SGD, a tenth at 50 and 75 %, PGD-10; it chooses an epoch by 5,000 images held back."""

EVERY = 900 / (200 * 352)
"""The published interval between two exchanges, as a share of 200 epochs of 352 steps."""


class FlyingBird(Recipe):
    """Prune at random before training, by ideal gas quotas, and exchange weights while the network trains.

    No dense network is trained. With `dynamics.plus` the number of weights changes too, so that the measured sparsity
    differs from `sparsity`. Source: Chen et al. 2022, arXiv:2202.09844.
    """

    published: ClassVar[dict[str, Any]] = PUBLISHED
    kind: Literal["flying_bird"] = "flying_bird"
    epochs: int = Field(default=200, gt=0, description="epochs of the training")
    train: Training = Field(default=Training.model_validate(PUBLISHED), description=PUBLISHED_TRAINING)
    places: ClassVar[dict[str, tuple[str, ...]]] = {**Recipe.places, "rewiring": ("dynamics",)}
    prune: Pruning = Field(
        default=Pruning(pruner=Random(), scope="layerwise", layers=Igq()),
        description="how it is pruned before training",
    )
    dynamics: Dynamics = Field(
        default=Dynamics(every=EVERY), description="how weights are exchanged; by default as often as published"
    )

    @field_validator("dynamics", mode="before")
    @classmethod
    def _as_often_as_published(cls, value: Any) -> Any:
        return {"every": EVERY, **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_warmups(self.train, self.epochs)
        if self.dynamics.plus and not self.train.select:
            raise located(
                "plus needs images that are held back; set select above 0", "train", "select", value=self.train.select
            )
        if self.prune.structure != "unstructured":
            message = "the mask update exchanges single weights, which would lose a structure; set it to unstructured"
            raise located(message, "prune", "structure", value=self.prune.structure)
        return self

    def phases(self) -> tuple[Phase, ...]:
        if not self.sparsity:
            return Train(epochs=self.epochs, training=self.train), Measure()
        cut = Prune(sparsity=self.sparsity, pruning=self.prune)
        return cut, Train(epochs=self.epochs, training=self.train, rewiring=self.dynamics), Measure()
