"""Adversarial winning tickets: a sparse network is found at initialisation, and trained adversarially from there."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from trainables.method.imitation import Imitation
from trainables.method.phases import Imitate, Measure, Phase, Prune, Rewind, Train
from trainables.pruning import Pruning
from trainables.recipes.base import Recipe, check_warmups


class Shi2022(Recipe):
    """Find a sparse network before training, then train it adversarially.

    `method`: `awt` searches `search_epochs` for a mask, and weights, that do what the dense network does (`imitation`),
    starting with the mask of `prune`; `prune` cuts by it in one step, the control. `weights` that training starts from:
    `found` by the search (of a control the initial ones), the `init`ial, or `random` new ones, under the same mask.
    With `measure_start` the network is a point before it is trained as well, for the distances to the dense one; that
    is for experiments, as a search would learn that nothing is robust. A `sparsity` of 0 trains the dense network; with
    `reference` that is done first, and measured, for the metric `dynamics`: it is shared by all sparsities and methods,
    and what follows starts from the initial network all the same.
    Source: Shi et al. 2022, arXiv:2202.06488; how far that is verified, docs/recipes/shi2022.md tells.
    """

    kind: Literal["shi2022"] = "shi2022"
    method: Literal["awt", "prune"] = "awt"
    search_epochs: int = Field(default=20, gt=0)
    imitation: Imitation = Imitation()
    prune: Pruning = Pruning(scope="layerwise")
    weights: Literal["found", "init", "random"] = "found"
    measure_start: bool = False
    reference: bool = False

    @model_validator(mode="after")
    def _warmups_fit(self) -> Self:
        check_warmups(self.train, self.epochs)
        return self

    def phases(self) -> tuple[Phase, ...]:
        start = (Measure(),) if self.measure_start else ()
        train = (Train(epochs=self.epochs, training=self.train), Measure())
        if not self.sparsity:
            return (*start, *train)
        return (*self._reference(), self._sparse(), *self._rewound(), *start, *train)

    def _reference(self) -> tuple[Phase, ...]:
        if not self.reference:
            return ()
        dense = Measure(stands_for={"sparsity": 0.0})
        return (Train(epochs=self.epochs, training=self.train), dense, Rewind(to="init"))

    def _sparse(self) -> Phase:
        if self.method == "prune":
            return Prune(sparsity=self.sparsity, pruning=self.prune)
        return Imitate(epochs=self.search_epochs, sparsity=self.sparsity, pruning=self.prune, imitation=self.imitation)

    def _rewound(self) -> tuple[Phase, ...]:
        """Return what gives the mask other weights; a pruned network has the initial ones already."""
        if self.weights == "random":
            return (Rewind(to="random"),)
        return (Rewind(to="init"),) if self.weights == "init" and self.method == "awt" else ()
