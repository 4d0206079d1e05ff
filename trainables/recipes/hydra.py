"""HYDRA: the mask of a robust network is learned on the robust loss."""

from __future__ import annotations

from typing import Literal

from trainables.recipes.learned import Learned
from trainables.reparametrisations.base import Reparametrisation
from trainables.reparametrisations.learned import Scores


class Hydra(Learned):
    """Learn a score for every frozen weight of a trained network, keep the highest of each layer, fine-tune.

    Source: Sehwag, Wang, Mittal & Jana 2020, arXiv:2002.10509, and its code.
    """

    kind: Literal["hydra"] = "hydra"

    def search(self) -> Reparametrisation:
        return Scores(
            sparsity=self.sparsity,
            layers=self.layers,
            s2ap=self.s2ap,
            s2ap_warmup=self.s2ap_warmup,
            train_rest=self.train_rest,
        )
