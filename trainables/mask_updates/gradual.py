"""Gradual pruning within a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from trainables.core.amounts import Interval, amount
from trainables.core.spec import located
from trainables.mask_updates.base import MaskUpdate, MaskUpdateContext
from trainables.pruning import Pruning

if TYPE_CHECKING:
    from torch import Tensor


def check_pruning(pruning: Pruning, field: str) -> None:
    """Refuse a pruning that cannot be done within a training; `field` is its name.

    Raises:
        pydantic.ValidationError: it is not of single weights, rescales them, or goes by more than weights.
    """
    if pruning.structure != "unstructured":
        message = "pruning within a training is for structure unstructured"
        raise located(message, field, "structure", value=pruning.structure)
    if pruning.rescale:
        raise located("pruning within a training changes masks alone", field, "rescale", value=True)
    for name in ("pruner", "layers"):
        part = getattr(pruning, name)
        if part.needs_network:
            message = f"pruning within a training goes by the weights alone, and {part.kind} does not"
            raise located(message, field, name, value=part.kind)


class Gradual(MaskUpdate):
    """Cut at intervals to a sparsity that rises from the network's own to `sparsity`, fast at first.

    s(t) = s_f + (s_i - s_f) (1 - (t - t_0) / (t_1 - t_0))^3, from t_0 to t_1 after shares `begin` and `end` of the
    training; what is cut stays cut. Source: Zhu & Gupta 2017, arXiv:1710.01878; the shares and `every` are
    ours.
    """

    kind: Literal["gradual"] = "gradual"
    sparsity: float = Field(default=0.9, ge=0, lt=1, description="s_f, the final sparsity")
    begin: float = Field(default=0.0, ge=0, lt=1, description="t_0, as a share of the training")
    end: float = Field(default=0.75, gt=0, le=1, description="t_1, as a share of the training")
    every: Interval = Field(
        default=100, description="steps between two cuts; below 1, a share of the steps of the training"
    )
    pruning: Pruning = Field(default=Pruning(), description="which weights are cut")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.begin >= self.end:
            raise located(f"begin {self.begin:g} is not before end {self.end:g}", "begin", value=self.begin)
        check_pruning(self.pruning, "pruning")
        return self

    def due(self, step: int, steps: int) -> bool:
        first, last = self._ends(steps)
        return step == last or (first < step < last and (step - first) % amount(self.every, steps) == 0)

    def check_length(self, steps: int, epochs: int) -> None:
        first, last = self._ends(steps)
        if first + amount(self.every, steps) >= last:
            message = f"no cut but the last comes due in the {last - first} steps of {steps} in which sparsity rises"
            raise located(f"{message}; set a share of all steps, such as 0.025", "every", value=self.every)

    def settled(self, step: int, steps: int) -> bool:
        return step >= self._ends(steps)[1]

    def masks(self, context: MaskUpdateContext) -> dict[str, Tensor]:
        from trainables.pruning.cut import prune
        from trainables.store.state import State

        sparsity = self.sparsity_at(context.step, context.steps, context.initial)
        state = State({name: p.detach() for name, p in context.params.items()}, {}, dict(context.masks))
        return prune(self.pruning, sparsity, state, context.generator).masks

    def sparsity_at(self, step: int, steps: int, initial: float) -> float:
        """Return the sparsity to cut to after a step, of a network that began at `initial`."""
        first, last = self._ends(steps)
        left = 1 - min(1.0, (step - first) / (last - first))
        return self.sparsity + (min(initial, self.sparsity) - self.sparsity) * left**3

    def _ends(self, steps: int) -> tuple[int, int]:
        last = max(1, round(self.end * steps))
        return min(round(self.begin * steps), last - 1), last
