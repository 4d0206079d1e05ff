"""Adversarial winning tickets: a sparse network is found at initialisation, and trained adversarially from there."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainables.method.imitation import Imitation
from trainables.method.phases import Imitate, Measure, Phase, Prune, Rewind, Train
from trainables.method.training import Training
from trainables.pruning import Pruning
from trainables.recipes.base import Recipe, check_warmups


class Shi2022(Recipe):
    """Find a sparse network before training by a tangent-kernel mask search, then train it adversarially.

    A `sparsity` of 0 trains the dense network. Source: Shi et al. 2022, arXiv:2202.06488; docs/recipes/shi2022.md
    says how far this is verified.
    """

    published: ClassVar[dict[str, Any]] = {"precision": "fp32"}
    kind: Literal["shi2022"] = "shi2022"
    train: Training = Field(
        default=Training(precision="fp32"), description="the training; the paper's is not known to us"
    )
    method: Literal["awt", "prune"] = Field(
        default="awt", description="awt: search for the mask; prune: prune in one step, the control"
    )
    search_epochs: int = Field(default=20, gt=0, description="epochs of the search")
    imitation: Imitation = Field(default=Imitation(), description="the search")
    prune: Pruning = Field(default=Pruning(scope="layerwise"), description="how the first mask is made")
    weights: Literal["found", "init", "random"] = Field(
        default="found",
        description="weights from which the training starts: those of the search, the initial ones, or new random ones",
    )
    measure_start: bool = Field(
        default=False,
        description="measure the network before its training too; only for experiments, as the sampler observes points "
        "that are not robust",
    )
    reference: bool = Field(
        default=False,
        description="train and measure the dense network first, for the metric `dynamics`; all sparsities and methods "
        "share it, and the search still starts from the initial network",
    )

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
        """Return the rewind to other weights, if any; a pruned network has the initial ones already."""
        if self.weights == "random":
            return (Rewind(to="random"),)
        return (Rewind(to="init"),) if self.weights == "init" and self.method == "awt" else ()
