"""Pruning: pruners score weights, `cut` keeps exactly the budgeted number of them."""

from __future__ import annotations

from typing import Annotated, Literal

from trainables.base import Spec
from trainables.pruning.base import Pruner
from trainables.pruning.saliency import Grasp, NtkSap, Snip, Synflow
from trainables.pruning.scores import Magnitude, Random
from trainables.registry import Registry

PRUNERS: Registry[Pruner] = Registry(
    "pruner",
    {
        "magnitude": Magnitude,
        "random": Random,
        "snip": Snip,
        "grasp": Grasp,
        "synflow": Synflow,
        "ntk_sap": NtkSap,
    },
)

Scope = Literal["global", "layerwise"]


class Pruning(Spec):
    """How weights are chosen for pruning.

    Sparsity always counts all convolution and linear weights; `prune_first` and `prune_last` say
    whether the first and the last of those layers give some of theirs. `global` ranks all weights
    together, `layerwise` takes the same share of every layer.
    """

    pruner: Annotated[Pruner, PRUNERS] = Magnitude()
    scope: Scope = "global"
    prune_first: bool = True
    prune_last: bool = True
