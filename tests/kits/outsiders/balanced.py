"""A pruner: magnitude against the norm of the weight's output."""

from __future__ import annotations

from typing import Any, Literal

from trainables.pruning import PRUNERS
from trainables.pruning.base import Pruner


class Balanced(Pruner):
    """Keep the weights that are largest for their output."""

    kind: Literal["balanced_of_test"] = "balanced_of_test"

    def scores(self, context: Any) -> Any:
        return {
            name: w.abs() / w.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, *[1] * (w.dim() - 1))
            for name, w in context.weights.items()
        }


PRUNERS.register("balanced_of_test", Balanced)
