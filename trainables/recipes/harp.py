"""HARP: the mask and the layers' densities are learned together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainables.pruning import Pruning
from trainables.recipes.learned import Learned
from trainables.reparametrisations.base import Reparametrisation
from trainables.reparametrisations.learned import Rated


class Harp(Learned):
    """As HYDRA, with a trained density for each layer that a growing penalty brings to the budget.

    The published weight decay is 5e-4, HYDRA's 1e-4.
    Source: Zhao & Wressnegger 2023, "Holistic Adversarially Robust Pruning" (ICLR), and its code.
    """

    kind: Literal["harp"] = "harp"
    structure: Literal["unstructured", "filter"] = Field(default="unstructured", description="prune weights or filters")
    counts: Literal["weights", "macs"] = Field(default="weights", description="what the budget counts")
    least: float = Field(default=0.1, gt=0, lt=1, description="as of the weights `rated`")
    begin: float = Field(default=0.1, gt=0, lt=1, description="as of the weights `rated`")
    gamma: float = Field(default=0.01, ge=0, description="as of the weights `rated`")
    train_rest: bool = Field(default=True, description="train biases and batch norms while the mask is learned")

    def search(self) -> Reparametrisation:
        return Rated(
            sparsity=self.sparsity,
            layers=self.layers,
            s2ap=self.s2ap,
            s2ap_warmup=self.s2ap_warmup,
            structure=self.structure,
            counts=self.counts,
            least=self.least,
            begin=self.begin,
            gamma=self.gamma,
            train_rest=self.train_rest,
        )

    def cut(self) -> Pruning:
        return Pruning(structure=self.structure)
