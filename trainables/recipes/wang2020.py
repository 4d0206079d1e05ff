"""Wang et al. 2020: weights inheritance in adversarial pruning, and inverse weights inheritance."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from trainables.losses.cross_entropy import Natural
from trainables.method.phases import Inherit, Measure, Phase, Prune, Rest, Rewind, Train
from trainables.method.training import Training
from trainables.pruning import Pruning
from trainables.pruning.scores import Leading, Slimming
from trainables.recipes.base import Recipe, check_warmups
from trainables.regularisers.norms import Slimming as SlimmingPenalty

PRUNINGS = {
    "global": Pruning(),
    "layerwise": Pruning(scope="layerwise"),
    "filter": Pruning(scope="layerwise", structure="filter"),
    "slimming": Pruning(pruner=Slimming(), structure="filter"),
    "narrow": Pruning(pruner=Leading(), scope="layerwise", structure="filter", rescale=True),
}
"""By source, how the small network comes out of the large one."""


class Wang2020(Recipe):
    """A small robust network by adversarial pruning, and a large one that inherits its weights.

    `small` says where the small network comes from: pruned from the trained large one (`global` or `layerwise`
    magnitudes, l1-norm `filter`s, network `slimming` with its penalty in the dense training), in `rounds` rounds that
    leave the same share each; or `narrow`, the leading filters alone, trained from their initial values. After a
    pruning the survivors are `continued`, `rewound` to their initial values or drawn at `random` (`weights`), and
    trained `retrain_epochs`. `natural_first` trains the dense network without an adversary.

    `large` `inherit` then opens all masks, sets what was pruned as `rest`, `rest_scale` and `inherit_norms` say (see
    `Inherit`), and trains the whole network `large_epochs`: inverse weights inheritance. Its baselines start from the
    initialisation and train as long as that last training (`equal_epochs`), or as all trainings together
    (`equal_compute`; epochs of a narrow network count like others, to the baseline's advantage). `none` ends with
    the small network. `sparsity` is that of the small network.

    The paper's text is not known to us, but for its abstract: which of these it means, its epochs, rates, and slimming
    weight, are open, and the defaults are ours. Source: Wang et al. 2020, arXiv:2009.05423.
    """

    kind: Literal["wang2020"] = "wang2020"
    small: Literal["global", "layerwise", "filter", "slimming", "narrow"] = "global"
    rounds: int = Field(default=1, gt=0)
    weights: Literal["continued", "rewound", "random"] = "continued"
    retrain_epochs: int = Field(default=15, gt=0)
    natural_first: bool = False
    slimming: float = Field(default=1e-4, ge=0)
    large: Literal["inherit", "equal_epochs", "equal_compute", "none"] = "inherit"
    large_epochs: int = Field(default=30, gt=0)
    rest: Rest = "zero"
    rest_scale: float = Field(default=1.0, ge=0)
    inherit_norms: bool = True

    @model_validator(mode="after")
    def _warmups_fit(self) -> Self:
        check_warmups(self.train, min(self.epochs, self.retrain_epochs, self.large_epochs))
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

    def _narrow(self) -> tuple[Phase, ...]:
        cut = Prune(sparsity=self.sparsity, pruning=PRUNINGS["narrow"])
        return cut, Train(epochs=self.epochs, training=self.train), self._measured(self.sparsity, self.rounds)

    def _pruned(self) -> tuple[Phase, ...]:
        steps = [*self._trained()]
        for number in range(1, self.rounds + 1):
            rung = 1 - (1 - self.sparsity) ** (number / self.rounds)
            sparsity = self.sparsity if number == self.rounds else round(rung, 6)
            steps.append(Prune(sparsity=sparsity, pruning=PRUNINGS[self.small]))
            if self.weights != "continued":
                steps.append(Rewind(to="init" if self.weights == "rewound" else "random"))
            steps.append(Train(epochs=self.retrain_epochs, training=self.train))
            steps.append(self._measured(sparsity, number))
        return tuple(steps)

    def _trained(self) -> tuple[Phase, ...]:
        """Return the training of the large network before it is pruned, which is all there is of a sparsity of 0."""
        return Train(epochs=self.epochs, training=self._dense()), Measure(stands_for={"sparsity": 0.0})

    def _measured(self, sparsity: float, rounds: int) -> Measure:
        """Return the measurement of a small network: the last one of a recipe without a large one after it."""
        return Measure(stands_for={"sparsity": sparsity, "rounds": rounds, "large": "none"})

    def _dense(self) -> Training:
        """Return how the large network is trained before it is pruned."""
        update: dict[str, object] = {}
        if self.natural_first and self.small != "narrow":
            update["loss"] = Natural()
        if self.small == "slimming":
            update["regularisers"] = {**self.train.regularisers, "slimming": SlimmingPenalty(weight=self.slimming)}
        return self.train.model_copy(update=update)
