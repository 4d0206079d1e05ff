"""Weights that are pulled towards a budget of non-zero ones while they are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, field_validator, model_validator

from trainables.core.spec import located
from trainables.pruning import Pruning
from trainables.pruning.scores import Magnitude
from trainables.reparametrisations.base import EffectiveWeights, Reparametrisation, Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from trainables.store.state import State

TARGET, MULTIPLIER = "admm/z/", "admm/u/"


def check_projection(pruning: Pruning) -> Pruning:
    """Return a pruning, unless it does not keep the nearest weights within its budget.

    Raises:
        pydantic.ValidationError: it cuts whole filters, rescales weights, or goes by something else than magnitude.
    """
    if pruning.structure == "filter":
        message = "weights are pulled to single weights or n:m patterns, not to whole filters"
        raise located(message, "structure", value=pruning.structure)
    if pruning.rescale:
        raise located("weights are pulled to the largest as they are, not rescaled", "rescale", value=True)
    if not isinstance(pruning.pruner, Magnitude):
        kind = pruning.pruner.kind
        message = f"weights are pulled to the nearest ones within the budget, the largest; {kind} keeps others"
        raise located(message, "pruner", value=kind)
    if pruning.layers.needs_network:
        kind = pruning.layers.kind
        raise located(f"weights are pulled by the weights alone, and {kind} densities need more", "layers", value=kind)
    return pruning


class Admm(Reparametrisation):
    """The weights themselves are trained, and pulled towards a budget by the method of multipliers (ADMM).

    Added to the loss is rho_t / 2 * sum |W - Z + U|^2 over the layers that are pruned. At first Z is the projection of
    W, the nearest weights within the budget, and U is 0; after every `update_epochs` Z becomes the projection of
    W + U, then U grows by W - Z. rho_t is `rho` times `growth` for each update, and U is not rescaled with it, as in
    the code. Nothing is cut: that is left to a pruning. With `select` the last epoch is the result. Each part of a
    training in parts begins with a Z and U of its own. Defaults are those of the code, for 200 epochs.
    Source: Ye et al. 2019, arXiv:1903.12561, by its code; the method: Boyd et al. 2011, "Distributed Optimization and
    Statistical Learning via the Alternating Direction Method of Multipliers".
    """

    kind: Literal["admm"] = "admm"
    sparsity: float = Field(ge=0, lt=1, description="the budget: the sparsity that weights are pulled to")
    rho: float = Field(default=1e-3, gt=0, description="strength of the pull at first")
    growth: float = Field(default=1.3, ge=1, description="factor of rho for each update")
    update_epochs: int = Field(default=20, gt=0, description="epochs between two updates of Z and U")
    pruning: Pruning = Field(
        default=Pruning(scope="layerwise"), description="how the budget is shared between layers, and which have one"
    )

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

    def build(self, state: State, generator: torch.Generator, model: nn.Module, shape: Shape) -> EffectiveWeights:
        return AdmmWeights(self, state, generator)


class AdmmWeights(EffectiveWeights):
    """Z and U of the layers that are pruned; the weights are the network's own parameters."""

    def __init__(self, spec: Admm, state: State, draws: torch.Generator) -> None:
        """Begin at the weights of `state`, which are the network's parameters and change under training."""
        import torch

        super().__init__()
        self._spec, self._state, self._draws = spec, state, draws
        self._rho = spec.rho
        spared = spec.pruning.spared(state.prunable())
        self._pulled = {name: state.params[name] for name in state.prunable() if name not in spared}
        for name, weight in self._pulled.items():
            for prefix in (TARGET, MULTIPLIER):
                self.kept[prefix + name] = torch.zeros_like(weight)
        self._write(TARGET, self._projection({name: weight.detach() for name, weight in self._pulled.items()}))

    def weights(
        self, params: Mapping[str, Tensor], extras: Mapping[str, Tensor], draws: torch.Generator | None
    ) -> dict[str, Tensor]:
        return {}

    def begin(self, epoch: int) -> None:
        self._rho = self._spec.rho * self._spec.growth ** self._spec.updates(epoch)
        if epoch and epoch % self._spec.update_epochs == 0:
            self._update()

    def penalty(self) -> Tensor:
        import torch

        squares = [
            (weight - self.kept[TARGET + name] + self.kept[MULTIPLIER + name]).square().sum()
            for name, weight in self._pulled.items()
        ]
        return self._rho / 2 * torch.stack(squares).sum()

    def fold(self, state: State, extras: Mapping[str, Tensor]) -> State:
        """Return the state, noting the share of the squared weights that a cut to the budget takes from it."""
        import torch

        from trainables.store.state import FORCED

        folded = super().fold(state, extras)
        points = {name: folded.params[name].detach() for name in self._pulled}
        nearest = self._projection(points)
        whole = sum(float(point.square().sum()) for point in points.values())
        left = sum(float(point.square().sum()) for point in nearest.values())
        forced = 1 - left / whole if whole else 0.0
        return replace(folded, notes={FORCED: torch.tensor(forced, dtype=torch.float64)})

    def _update(self) -> None:
        reached = {name: weight.detach() + self.kept[MULTIPLIER + name] for name, weight in self._pulled.items()}
        nearest = self._projection(reached)
        self._write(TARGET, nearest)
        self._write(MULTIPLIER, {name: reached[name] - nearest[name] for name in reached})

    def _projection(self, points: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the nearest tensors within the budget: what a cut by magnitude, which draws nothing, leaves."""
        import torch

        from trainables.pruning.cut import prune

        moved = replace(self._state, params={**self._state.params, **points})
        masks = prune(self._spec.pruning, self._spec.sparsity, moved, self._draws).masks
        return {name: torch.where(masks[name], point, 0.0) for name, point in points.items()}

    def _write(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self.kept[prefix + name].copy_(tensor)
