"""Filter pruning: a smaller dense network."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from trainables.core.spec import located
from trainables.pruning import Pruning
from trainables.recipes.three_stage import ThreeStage


class Filter(ThreeStage):
    """Train, prune whole filters, fine-tune. The result can be saved as a smaller dense network.

    By default the filters of smallest l1 norm in each layer are pruned, about the same share of all layers.
    Source: Li et al. 2017, arXiv:1608.08710.
    """

    kind: Literal["filter"] = "filter"  # type: ignore[assignment]
    prune: Pruning = Field(default=Pruning(scope="layerwise", structure="filter"), description="how it is pruned")

    @field_validator("prune", mode="before")
    @classmethod
    def _of_filters(cls, value: Any) -> Any:
        return {"structure": "filter", **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _whole_filters(self) -> Self:
        if self.prune.structure != "filter":
            raise located(
                "this recipe prunes whole filters; set structure to filter",
                "prune",
                "structure",
                value=self.prune.structure,
            )
        return self
