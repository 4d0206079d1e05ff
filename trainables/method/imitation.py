"""How a sparse network is made to imitate the dense one before training, as data."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.attacks.pgd import Pgd
from trainables.core.spec import Eps, Spec, check_radius
from trainables.metrics.base import KernelInputs
from trainables.optimisers import OPTIMISERS
from trainables.optimisers.adam import Adam
from trainables.optimisers.base import Optimiser


class Imitation(Spec):
    """What is descended, with which steps, and how the mask follows.

    The objective of a batch is `target` times the mean squared distance between sparse and dense logits, plus `kernel`
    times that between their tangent kernels of one half of the batch with the other, plus `l2` over the density times
    the sum of squares of the living weights. `target_inputs` are those of the logits; `kernel_inputs` `mixed` takes
    clean images in one half and adversarial ones in the other. Adversarial are the images that `attack` makes within
    `eps` of the network `attacked`. `outputs`: `full` kernels over all pairs of classes, or those of the `sum` of
    logits or of a `random` combination, which cost a class's share. Every `rerank` steps the mask becomes that of the
    largest weights, but for the last so many.

    `learn`: the `weights`, of which pruned ones rest and may come back; or the `mask` alone, through scores that start
    as the weights' sizes and pass gradients straight through (there is no `l2` then). `chunk` bounds the memory: so
    many images of each half have their derivatives held at a time.

    Source: Liu & Zenke 2020 (arXiv:2006.08228), whose code gives batch, optimiser, `rerank`, `kernel` and `l2`; with
    adversarial inputs Shi et al. 2022 (arXiv:2202.06488). Which network is attacked, with what, which inputs
    go where, and whether weights are learnt too, are our defaults.
    """

    batch: int = Field(default=64, gt=0)
    optimiser: Annotated[Optimiser, OPTIMISERS] = Adam(lr=5e-4)
    target: float = Field(default=1.0, ge=0)
    kernel: float = Field(default=1e-3, ge=0)
    l2: float = Field(default=1e-5, ge=0)
    target_inputs: Literal["clean", "adversarial"] = "adversarial"
    kernel_inputs: KernelInputs = "mixed"
    outputs: Literal["full", "sum", "random"] = "full"
    attack: Annotated[Attack, ATTACKS] = Pgd(steps=10)
    eps: Eps = Eps("8/255")
    attacked: Literal["dense", "sparse"] = "dense"
    rerank: int = Field(default=100, gt=0)
    learn: Literal["weights", "mask"] = "weights"
    chunk: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _radius_fits_norm(self) -> Self:
        check_radius(self.eps, self.attack.norm)
        return self

    @property
    def attacks(self) -> bool:
        """Whether any input is adversarial."""
        return bool((self.target and self.target_inputs != "clean") or (self.kernel and self.kernel_inputs != "clean"))
