"""Flying Bird: sparse from the start, rewired while it is trained."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from trainables.core.spec import located
from trainables.mask_updates.flying_bird import FlyingBird as Dynamics
from trainables.method.phases import Measure, Phase, Prune, Train
from trainables.pruning import Pruning
from trainables.pruning.scores import Random
from trainables.recipes.base import Recipe, check_warmups


class FlyingBird(Recipe):
    """Prune at random before training, by ideal gas quotas, and let weights die and grow while the network trains.

    No dense network is ever trained. With `dynamics.plus` the number of weights changes as well, so that the measured
    sparsity is not the one asked for. Source: Chen et al. 2022, arXiv:2202.09844 §3.
    """

    kind: Literal["flying_bird"] = "flying_bird"
    prune: Pruning = Pruning(pruner=Random(), scope="layerwise", layers="igq")
    dynamics: Dynamics = Dynamics()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_warmups(self.train, self.epochs)
        if self.dynamics.plus and not self.train.select:
            raise located("plus looks at images that are held back", "train", "select", value=self.train.select)
        if self.prune.structure != "unstructured":
            message = "single weights are rewired: a structure would be lost"
            raise located(message, "prune", "structure", value=self.prune.structure)
        return self

    def phases(self) -> tuple[Phase, ...]:
        if not self.sparsity:
            return Train(epochs=self.epochs, training=self.train), Measure()
        cut = Prune(sparsity=self.sparsity, pruning=self.prune)
        return cut, Train(epochs=self.epochs, training=self.train, rewiring=self.dynamics), Measure()
