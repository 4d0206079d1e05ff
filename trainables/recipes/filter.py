"""Filter pruning: a smaller dense network."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from trainables.core.spec import located
from trainables.pruning import Pruning
from trainables.recipes.three_stage import ThreeStage


class Filter(ThreeStage):
    """Train, prune whole filters, fine-tune: what is left can be built as a smaller dense network.

    `trainables.export.shrunk` builds it. The default takes the filters of smallest l1 norm from each layer, nearly the
    same share of all. Source: Li et al. 2017, arXiv:1608.08710 §3.
    """

    kind: Literal["filter"] = "filter"  # type: ignore[assignment]
    prune: Pruning = Pruning(scope="layerwise", structure="filter")

    @model_validator(mode="after")
    def _whole_filters(self) -> Self:
        if self.prune.structure != "filter":
            raise located("filters are cut whole here", "prune", "structure", value=self.prune.structure)
        return self
