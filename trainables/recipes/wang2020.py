"""Wang et al. 2020: weights inheritance in adversarial pruning, and inverse weights inheritance."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainables.core.amounts import Floor
from trainables.core.spec import located
from trainables.losses.cross_entropy import Natural
from trainables.method.phases import Inherit, Measure, Phase, Prune, Rest, Rewind, Train
from trainables.method.training import Training
from trainables.pruning import Pruning
from trainables.pruning.scores import Leading, Slimming
from trainables.recipes.base import MAX_ROUNDS, PENALTY_STEPS, Recipe, check_warmups
from trainables.regularisers.norms import Slimming as SlimmingPenalty

PRUNINGS = {
    "global": Pruning(),
    "layerwise": Pruning(scope="layerwise"),
    "filter": Pruning(scope="layerwise", structure="filter"),
    "slimming": Pruning(pruner=Slimming(), structure="filter"),
    "narrow": Pruning(pruner=Leading(), scope="layerwise", structure="filter", rescale=True),
}
"""How the small network is pruned from the large one, by source."""


class Wang2020(Recipe):
    """A small robust network by adversarial pruning, and a large one that inherits its weights.

    `sparsity` is that of the small network. We know only the abstract of the paper: which of these variants it means,
    its epochs, rates and slimming weight are open, and the defaults are ours.
    Source: Wang et al. 2020, arXiv:2009.05423.
    """

    published: ClassVar[dict[str, Any]] = {"precision": "fp32"}
    kind: Literal["wang2020"] = "wang2020"
    train: Training = Field(
        default=Training(precision="fp32"), description="the training; the paper's is not known to us"
    )
    small: Literal["global", "layerwise", "filter", "slimming", "narrow"] = Field(
        default="global",
        description="the small network: pruned from the trained large one by global or layerwise magnitudes, by the l1 "
        "norm of filters, or by network slimming; narrow: the leading filters, trained from their initial values",
    )
    rounds: int = Field(
        default=1, gt=0, le=MAX_ROUNDS, description="prunings up to the sparsity, each by the same share"
    )
    floor: Floor = Field(default=0, description="the least that each layer keeps, as of `prune` in other recipes")
    weights: Literal["continued", "rewound", "random"] = Field(
        default="continued",
        description="weights after a pruning: the pruned ones, the initial ones, or new random ones",
    )
    retrain_epochs: int = Field(default=15, gt=0, description="epochs of the training after a pruning")
    natural_first: bool = Field(default=False, description="train the dense network naturally")
    slimming: float = Field(
        default=1e-4, ge=0, description="weight of the slimming penalty in the dense training, if `small` is slimming"
    )
    penalty_steps: int | None = Field(default=160 * 782, gt=0, description=PENALTY_STEPS)
    large: Literal["inherit", "equal_epochs", "equal_compute", "none"] = Field(
        default="inherit",
        description="the large network: inherit: it inherits the small one's weights; its baselines start from the "
        "initialisation and train as long as that last training, or as all trainings together; none: no large network",
    )
    large_epochs: int = Field(default=30, gt=0, description="epochs of the last training of the large network")
    rest: Rest = Field(
        default="silent", description="values of the weights that were pruned, as of the phase `inherit`"
    )
    rest_scale: float = Field(default=1.0, ge=0, description="factor of these values")
    inherit_norms: bool = Field(default=True, description="inherit the batch norms too")

    @model_validator(mode="after")
    def _warmups_fit(self) -> Self:
        check_warmups(self.train, min(self.epochs, self.retrain_epochs, self.large_epochs))
        return self

    @model_validator(mode="after")
    def _what_is_opened_can_learn(self) -> Self:
        nothing = self.rest == "zero" or not self.rest_scale
        if nothing and self.large == "inherit" and PRUNINGS[self.small].structure == "filter":
            field = "rest" if self.rest == "zero" else "rest_scale"
            message = (
                f"a filter that the small network ({self.small}) does not have would get neither inputs nor outputs, "
                "and no gradient: nothing would be inherited; set rest to silent, which adds nothing either"
            )
            raise located(message, field, value=getattr(self, field))
        return self

    def phases(self) -> tuple[Phase, ...]:
        if not self.sparsity:
            return self._trained()
        if self.large in ("equal_epochs", "equal_compute"):
            epochs = self.large_epochs if self.large == "equal_epochs" else self.compute()
            return Train(epochs=epochs, training=self.train), Measure()
        small = self._narrow() if self.small == "narrow" else self._pruned()
        if self.large == "none":
            return small
        inherit = Inherit(rest=self.rest, scale=self.rest_scale, norms=self.inherit_norms)
        return (*small, inherit, Train(epochs=self.large_epochs, training=self.train), Measure())

    def compute(self) -> int:
        """Return the epochs of all trainings of inverse weights inheritance together."""
        retrained = 0 if self.small == "narrow" else self.rounds * self.retrain_epochs
        return self.epochs + retrained + self.large_epochs

    def pruning(self) -> Pruning:
        """Return how the small network is pruned from the large one."""
        return PRUNINGS[self.small].model_copy(update={"floor": self.floor})

    def _narrow(self) -> tuple[Phase, ...]:
        cut = Prune(sparsity=self.sparsity, pruning=self.pruning())
        return cut, Train(epochs=self.epochs, training=self.train), self._measured(self.sparsity, self.rounds)

    def _pruned(self) -> tuple[Phase, ...]:
        phases = [*self._trained()]
        for number in range(1, self.rounds + 1):
            level = 1 - (1 - self.sparsity) ** (number / self.rounds)
            sparsity = self.sparsity if number == self.rounds else round(level, 6)
            phases.append(Prune(sparsity=sparsity, pruning=self.pruning()))
            if self.weights != "continued":
                phases.append(Rewind(to="init" if self.weights == "rewound" else "random"))
            phases.append(Train(epochs=self.retrain_epochs, training=self.train))
            phases.append(self._measured(sparsity, number))
        return tuple(phases)

    def _trained(self) -> tuple[Phase, ...]:
        """Return the training of the large network before it is pruned: all phases for a sparsity of 0."""
        steps = self.penalty_steps if self.small == "slimming" else None
        return Train(epochs=self.epochs, training=self._dense(), penalty_steps=steps), Measure(
            stands_for={"sparsity": 0.0}
        )

    def _measured(self, sparsity: float, rounds: int) -> Measure:
        """Return the measurement of a small network: the last one of a recipe without a large one after it."""
        return Measure(stands_for={"sparsity": sparsity, "rounds": rounds, "large": "none"})

    def _dense(self) -> Training:
        """Return the training of the large network before it is pruned."""
        update: dict[str, object] = {}
        if self.natural_first and self.small != "narrow":
            update["loss"] = Natural()
        if self.small == "slimming":
            update["regularisers"] = {**self.train.regularisers, "slimming": SlimmingPenalty(weight=self.slimming)}
        return self.train.model_copy(update=update)
