"""Flying Bird: dynamic sparse training."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from trainables.core.spec import located
from trainables.mask_updates.flying_bird import FlyingBird as Dynamics
from trainables.method.phases import Measure, Phase, Prune, Train
from trainables.pruning import Pruning
from trainables.pruning.densities import Igq
from trainables.pruning.scores import Random
from trainables.recipes.base import Recipe, check_warmups


class FlyingBird(Recipe):
    """Prune at random before training, by ideal gas quotas, and exchange weights while the network trains.

    No dense network is trained. With `dynamics.plus` the number of weights changes too, so that the measured sparsity
    differs from `sparsity`. Source: Chen et al. 2022, arXiv:2202.09844.
    """

    kind: Literal["flying_bird"] = "flying_bird"
    prune: Pruning = Field(
        default=Pruning(pruner=Random(), scope="layerwise", layers=Igq()),
        description="how it is pruned before training",
    )
    dynamics: Dynamics = Field(default=Dynamics(), description="how weights are exchanged")

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
