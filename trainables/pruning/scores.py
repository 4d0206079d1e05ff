"""Pruners that need the weights alone, or the scales of batch norms."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from trainables.core.errors import SpecError
from trainables.pruning.base import Pruner, PrunerContext

if TYPE_CHECKING:
    from torch import Tensor, nn


_NO_SCALES = "network slimming needs a network whose layers have batch norms behind them"


class Magnitude(Pruner):
    """Keep the weights of largest absolute value. Source: Han et al. 2015, arXiv:1506.02626."""

    kind: Literal["magnitude"] = "magnitude"

    def scores(self, context: PrunerContext) -> dict[str, Tensor]:
        return {name: w.abs() for name, w in context.weights.items()}


class Random(Pruner):
    """Keep weights drawn uniformly: the control that every criterion has to beat."""

    kind: Literal["random"] = "random"

    def scores(self, context: PrunerContext) -> dict[str, Tensor]:
        import torch

        return {
            name: torch.rand(w.shape, generator=context.generator, device=context.generator.device).to(w.device)
            for name, w in context.weights.items()
        }


class Slimming(Pruner):
    """Score a filter by the absolute scale of the batch norm behind it; for structure `filter`.

    Layers without such a batch norm score above all others, and are cut last. Meant for networks trained with the
    regulariser `slimming`. Source: Liu et al. 2017, arXiv:1708.06519.
    """

    kind: Literal["slimming"] = "slimming"

    needs_network: ClassVar[bool] = True

    def check(self, model: nn.Module, shape: tuple[int, int, int]) -> None:
        from trainables.models.graph.channels import Wiring

        if not Wiring(model, shape).scales(dict(model.named_parameters())):
            raise SpecError(_NO_SCALES)

    def scores(self, context: PrunerContext) -> dict[str, Tensor]:
        found = context.network.wiring.scales(context.network.params)
        scales = {name: scale.abs() for name, scale in found.items() if name in context.weights}
        if not scales:
            raise SpecError(_NO_SCALES)
        top = 2 * max(float(scale.max()) for scale in scales.values()) + 1
        whole = {name: scales.get(name, w.new_full((len(w),), top)) for name, w in context.weights.items()}
        return {name: _per_filter(whole[name], w) for name, w in context.weights.items()}


class Leading(Pruner):
    """Keep the first filters of a layer: with structure `filter` and scope `layerwise` a narrower network."""

    kind: Literal["leading"] = "leading"

    def scores(self, context: PrunerContext) -> dict[str, Tensor]:
        import torch

        return {
            name: _per_filter(-torch.arange(len(w), dtype=w.dtype, device=w.device), w)
            for name, w in context.weights.items()
        }


def _per_filter(scores: Tensor, weights: Tensor) -> Tensor:
    """Give each weight the score of its filter."""
    return scores.view(-1, *[1] * (weights.dim() - 1)).expand_as(weights)
