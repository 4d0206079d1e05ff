"""Weights that are pulled towards a budget of non-zero ones while they are trained."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from trainables.core.spec import located
from trainables.pruning import Pruning
from trainables.pruning.scores import Magnitude
from trainables.reparametrisations.base import Weights


def check_projection(pruning: Pruning) -> Pruning:
    """Return a pruning, unless it does not keep the nearest weights within its budget.

    Raises:
        pydantic.ValidationError: it cuts whole filters, or by something else than magnitude.
    """
    if pruning.structure == "filter":
        message = "weights are pulled to single weights or n:m patterns, not to whole filters"
        raise located(message, "structure", value=pruning.structure)
    if not isinstance(pruning.pruner, Magnitude):
        kind = pruning.pruner.kind
        message = f"weights are pulled to the nearest ones within the budget, the largest; {kind} keeps others"
        raise located(message, "pruner", value=kind)
    return pruning


class Admm(Weights):
    """The weights themselves are trained, and pulled towards a budget by the method of multipliers (ADMM).

    Added to the loss is rho_t / 2 * sum |W - Z + U|^2 over the layers that are pruned. At first Z is the projection of
    W, the nearest weights of which no more are not 0 than `sparsity` leaves, and U is 0; after every `update_epochs` Z
    becomes the projection of W + U, then U grows by W - Z. rho_t is `rho` times `growth` for each update, and U is not
    rescaled with it, as in the code. `pruning` says how the budget is divided between layers, and which of them have
    one. Nothing is cut: that is left to a pruning. With `select` it is the last epoch that is handed on. A training in
    parts begins with a Z and U of its own in each. Values are those of the code, for 200 epochs.
    Source: Ye et al. 2019, arXiv:1903.12561, by its code; the method: Boyd et al. 2011, "Distributed Optimization and
    Statistical Learning via the Alternating Direction Method of Multipliers", §3.1.1 and §9.1.
    """

    kind: Literal["admm"] = "admm"
    sparsity: float = Field(ge=0, lt=1)
    rho: float = Field(default=1e-3, gt=0)
    growth: float = Field(default=1.3, ge=1)
    update_epochs: int = Field(default=20, gt=0)
    pruning: Pruning = Pruning(scope="layerwise")

    @field_validator("pruning")
    @classmethod
    def _projects(cls, value: Pruning) -> Pruning:
        return check_projection(value)

    @model_validator(mode="after")
    def _gives_the_sparsity(self) -> Self:
        self.pruning.check_sparsity(self.sparsity)
        return self

    def updates(self, epoch: int) -> int:
        """Return how many times Z and U have changed as the epoch after `epoch` completed ones begins."""
        return epoch // self.update_epochs

    def settled(self, epoch: int, epochs: int) -> bool:
        return epoch == epochs
