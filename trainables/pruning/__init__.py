"""Pruning: pruners score weights, `cut` keeps exactly the budgeted number of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.core.amounts import Floor
from trainables.core.registry import Registry
from trainables.core.spec import Spec, located
from trainables.pruning.base import Pruner
from trainables.pruning.densities import Erk, Igq, Lamp, LayerDensities, Uniform
from trainables.pruning.mad import Mad
from trainables.pruning.saliency import Grasp, NtkSap, Snip, Synflow
from trainables.pruning.scores import Leading, Magnitude, Random, Slimming
from trainables.pruning.sensitivity import Sensitivity

PRUNERS: Registry[Pruner] = Registry(
    "pruner",
    Pruner,
    {
        "magnitude": Magnitude,
        "random": Random,
        "slimming": Slimming,
        "leading": Leading,
        "snip": Snip,
        "grasp": Grasp,
        "synflow": Synflow,
        "ntk_sap": NtkSap,
        "mad": Mad,
    },
)

LAYERS: Registry[LayerDensities] = Registry(
    "layer densities",
    LayerDensities,
    {
        "uniform": Uniform,
        "erk": Erk,
        "igq": Igq,
        "lamp": Lamp,
        "mrs": Sensitivity,
    },
)

Scope = Literal["global", "layerwise"]
Group = Literal["mean", "sum", "norm"]
Backend = Literal["own", "torch-pruning"]
Structure = Literal["unstructured", "filter"] | Annotated[str, Field(pattern=r"^[1-9]\d*:[1-9]\d*$")]


def has_filters(weight: str) -> bool:
    """Return whether the outputs of the layer of a weight of this name are filters, which can be cut whole.

    Those of attention's projections and of recurrent layers are parts of heads, gates and states.
    """
    return weight.rpartition(".")[2] == "weight"


class Pruning(Spec):
    """How weights are chosen for pruning. Sparsity always counts all prunable weights."""

    pruner: Annotated[Pruner, PRUNERS] = Field(default=Magnitude(), description="scores the weights")
    scope: Scope = Field(default="global", description="rank all weights together, or within each layer")
    prune_first: bool = Field(default=True, description="whether the first layer is pruned")
    prune_last: bool = Field(default=True, description="whether the last layer is pruned")
    layers: Annotated[LayerDensities, LAYERS] = Field(
        default=Uniform(), description="how much each layer keeps with scope layerwise"
    )
    structure: Structure = Field(
        default="unstructured",
        description="what is cut: single weights; whole filters of convolution and linear layers, all but those of the "
        "last; or by a pattern such as 2:4, which keeps 2 of every 4 inputs",
    )
    group: Group = Field(default="mean", description="how a filter's score follows from those of its weights")
    floor: Floor = Field(
        default=0,
        description="the least that each layer keeps: weights, or filters where whole ones are cut (at least 1); below "
        "1, a share of the layer's",
    )
    backend: Backend = Field(
        default="own",
        description="what knows which channels go with a filter: own, each filter by itself; torch-pruning, the "
        "package of this name (extra `structured`), which cuts what is added, concatenated or grouped together",
    )
    rescale: bool = Field(
        default=False,
        description="multiply each output's remaining weights by sqrt(before / after), so that the variance of their "
        "sum stays what it was",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.layers != Uniform() and (self.scope != "layerwise" or self.pattern):
            message = f"{self.layers.kind} densities are for scope layerwise and single weights or whole filters"
            raise located(message, "layers", value=self.layers.kind)
        if self.backend != "own" and (self.structure != "filter" or self.layers != Uniform() or self.rescale):
            message = f"the backend {self.backend} is for structure filter, uniform layers and no rescale"
            raise located(message, "backend", value=self.backend)
        if self.floor and (self.pattern or self.backend != "own"):
            message = "a floor is for single weights, and for filters with the backend own"
            raise located(message, "floor", value=self.floor)
        if (pattern := self.pattern) and pattern[0] >= pattern[1]:
            raise located(f"{self.structure} cuts nothing", "structure", value=self.structure)
        return self

    @property
    def needs_network(self) -> bool:
        """Whether weights alone do not tell what is cut."""
        return self.pruner.needs_network or self.layers.needs_network

    @property
    def pattern(self) -> tuple[int, int] | None:
        """Return n and m of an n:m structure, None for another."""
        kept, colon, of = self.structure.partition(":")
        return (int(kept), int(of)) if colon else None

    def spared(self, layers: Sequence[str]) -> frozenset[str]:
        """Return which of a network's layers, named in their order, give none of their weights."""
        # The last layer's outputs are the classes.
        keep_last = not self.prune_last or self.structure == "filter"
        whole = () if self.structure != "filter" else (name for name in layers if not has_filters(name))
        return frozenset((*(layers[:1] if not self.prune_first else ()), *(layers[-1:] if keep_last else ()), *whole))

    def check_sparsity(self, sparsity: float) -> None:
        """Refuse a sparsity that the structure cannot give.

        Raises:
            pydantic.ValidationError: the structure is a pattern, and gives another one.
        """
        if pattern := self.pattern:
            given = 1 - pattern[0] / pattern[1]
            if abs(given - sparsity) > 1e-6:
                message = f"a structure of {self.structure} gives a sparsity of {given:g}, not of {sparsity:g}"
                raise located(message, "sparsity", value=sparsity)
