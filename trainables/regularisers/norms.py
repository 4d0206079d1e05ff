"""Norm penalties: lasso, ridge, and group lasso over filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from trainables.regularisers.base import Regulariser

if TYPE_CHECKING:
    from torch import Tensor


class L1(Regulariser):
    """The lasso: the sum of absolute weights. Source: Rakin et al. 2019, arXiv:1905.13074."""

    kind: Literal["l1"] = "l1"

    def penalty(self, weights: Mapping[str, Tensor]) -> Tensor:
        import torch

        return torch.stack([w.abs().sum() for w in weights.values()]).sum()


class Slimming(L1):
    """The lasso on the scales of the batch norms; a network without batch norm trains as without it.

    The paper's weight is not known to us; its authors' code has 1e-4. Source: Liu et al. 2017, arXiv:1708.06519.
    """

    kind: Literal["slimming"] = "slimming"  # type: ignore[assignment]
    of = "scales"


class L2(Regulariser):
    """Ridge: half the sum of squared weights, so that its gradient is the weight itself."""

    kind: Literal["l2"] = "l2"

    def penalty(self, weights: Mapping[str, Tensor]) -> Tensor:
        import torch

        return torch.stack([w.square().sum() for w in weights.values()]).sum() / 2


class GroupLasso(Regulariser):
    """The sum over filters of sqrt(filter size) times the filter's l2 norm.

    A filter is one output channel of a convolution or one output unit of a linear layer. At a
    filter of zeros the gradient is zero. Source: Yuan & Lin 2006; Wen et al. 2016, arXiv:1608.03665.
    """

    kind: Literal["group_lasso"] = "group_lasso"

    def penalty(self, weights: Mapping[str, Tensor]) -> Tensor:
        import torch

        norms = []
        for w in weights.values():
            squared = w.square().sum(dim=tuple(range(1, w.dim())))
            # sqrt has an infinite slope at 0: pruned filters would turn the gradient into NaN.
            safe = torch.where(squared > 0, squared, torch.ones_like(squared)).sqrt()
            norms.append(torch.where(squared > 0, safe, torch.zeros_like(safe)).sum() * w[0].numel() ** 0.5)
        return torch.stack(norms).sum()
