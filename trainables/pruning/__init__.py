"""Pruning: pruners score weights, `cut` keeps exactly the budgeted number of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.core.registry import Registry
from trainables.core.spec import Spec, located
from trainables.pruning.base import Pruner
from trainables.pruning.densities import Layers
from trainables.pruning.mad import Mad
from trainables.pruning.saliency import Grasp, NtkSap, Snip, Synflow
from trainables.pruning.scores import Leading, Magnitude, Random, Slimming

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

Scope = Literal["global", "layerwise"]
Group = Literal["mean", "sum", "norm"]
Structure = Literal["unstructured", "filter"] | Annotated[str, Field(pattern=r"^[1-9]\d*:[1-9]\d*$")]


class Pruning(Spec):
    """How weights are chosen for pruning.

    Sparsity always counts all convolution and linear weights; `prune_first` and `prune_last` say
    whether the first and the last of those layers give some of theirs. `global` ranks all weights
    together, `layerwise` within each layer, which keeps as much as `layers` gives it: the same share of
    every layer, or by ERK, IGQ or LAMP (`trainables.pruning.densities`).

    `structure` is `unstructured`; `filter`, where whole filters are cut, ranked by their weights' scores as `group`
    says, and the last layer keeps all of its outputs; or a pattern such as `2:4`, of every 4 inputs 2.
    `rescale` multiplies each output's surviving weights with the square root of how many of them there were for
    one that is left, so that fresh weights keep the variance of what they add up to.
    """

    pruner: Annotated[Pruner, PRUNERS] = Magnitude()
    scope: Scope = "global"
    prune_first: bool = True
    prune_last: bool = True
    layers: Layers = "uniform"
    structure: Structure = "unstructured"
    group: Group = "mean"
    rescale: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.layers != "uniform" and (self.scope != "layerwise" or self.structure != "unstructured"):
            message = f"{self.layers} densities are for scope layerwise and structure unstructured"
            raise located(message, "layers", value=self.layers)
        if (pattern := self.pattern) and pattern[0] >= pattern[1]:
            raise located(f"{self.structure} cuts nothing", "structure", value=self.structure)
        return self

    @property
    def pattern(self) -> tuple[int, int] | None:
        """Return n and m of an n:m structure, None for another."""
        kept, colon, of = self.structure.partition(":")
        return (int(kept), int(of)) if colon else None

    def spared(self, layers: Sequence[str]) -> frozenset[str]:
        """Return which of a network's layers, named in their order, give none of their weights."""
        # The last layer's outputs are the classes.
        keep_last = not self.prune_last or self.structure == "filter"
        return frozenset((*(layers[:1] if not self.prune_first else ()), *(layers[-1:] if keep_last else ())))

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
