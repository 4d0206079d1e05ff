"""Pruners that look at nothing but the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trainables.pruning.base import Pruner, Scene

if TYPE_CHECKING:
    from torch import Tensor


class Magnitude(Pruner):
    """Keep the weights of largest absolute value. Source: Han et al. 2015, arXiv:1506.02626 §3."""

    kind: Literal["magnitude"] = "magnitude"

    def scores(self, scene: Scene) -> dict[str, Tensor]:
        return {name: w.abs() for name, w in scene.weights.items()}


class Random(Pruner):
    """Keep weights drawn uniformly: the control that every criterion has to beat."""

    kind: Literal["random"] = "random"

    def scores(self, scene: Scene) -> dict[str, Tensor]:
        import torch

        return {
            name: torch.rand(w.shape, generator=scene.generator, device=scene.generator.device).to(w.device)
            for name, w in scene.weights.items()
        }
