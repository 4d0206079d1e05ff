"""Iterative magnitude pruning: lottery tickets with rewinding."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from trainables.core.spec import located
from trainables.method.phases import Measure, Phase, Prune, Rewind, RewindTo, Train
from trainables.pruning import Pruning
from trainables.recipes.base import Recipe, check_rounds, check_warmups, ladder


class Imp(Recipe):
    """Train, then prune `rate` of the remaining weights, rewind and train again, until `sparsity` is reached.

    Every round is a measured point. The sparsities of the rounds, 1 - (1 - rate)^i, do not depend on `sparsity`, so a
    sparser trial shares the rounds of a denser one; only the last round prunes to `sparsity`.
    Source: Frankle & Carbin 2019, arXiv:1803.03635; rewinding: Frankle et al. 2020, arXiv:1912.05671.
    """

    kind: Literal["imp"] = "imp"
    rate: float = Field(default=0.2, gt=0, lt=1, description="share of the remaining weights that a round prunes")
    rewind: RewindTo | Literal["none"] = Field(
        default="init",
        description="weights after a pruning: init: the initial ones; a number: those after this epoch of the first "
        "training; dense_trained: those at its end; random: new ones; none: the pruned ones",
    )
    round_epochs: int | None = Field(
        default=None, gt=0, description="epochs of a round; null: those of the first training after the rewind epoch"
    )
    prune: Pruning = Field(default=Pruning(), description="how it is pruned")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_warmups(self.train, min(self.epochs, self.round_epochs or self.epochs))
        check_rounds(self.rate, self.sparsity)
        if isinstance(self.rewind, int) and self.rewind >= self.epochs:
            message = f"rewind epoch {self.rewind} is not before the end of a training of {self.epochs} epochs"
            raise located(message, "rewind", value=self.rewind)
        return self

    def ladder(self) -> tuple[float, ...]:
        """Return the sparsity of each pruning round."""
        return ladder(self.rate, self.sparsity)

    def phases(self) -> tuple[Phase, ...]:
        at = self.rewind if isinstance(self.rewind, int) else 0
        first = Train(epochs=self.epochs, training=self.train, snapshots=(at,) if at else ())
        phases: list[Phase] = [first, Measure(stands_for={"sparsity": 0.0})]
        if self.round_epochs is None:
            again = Train(epochs=self.epochs, start=at, training=self.train)
        else:
            again = Train(epochs=self.round_epochs, training=self.train)
        for sparsity in self.ladder():
            phases.append(Prune(sparsity=sparsity, pruning=self.prune))
            if self.rewind != "none":
                # Epoch 0 of the first training is the initialisation: one key for one state.
                phases.append(Rewind(to="init" if self.rewind == 0 else self.rewind))
            phases += [again, Measure(stands_for={"sparsity": sparsity})]
        return tuple(phases)
