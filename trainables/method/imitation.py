"""The tangent-kernel mask search before training, as data."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.attacks.pgd import Pgd
from trainables.core.amounts import Interval, amount
from trainables.core.spec import Eps, Spec, check_radius, located
from trainables.metrics.base import KernelInputs
from trainables.optimisers import OPTIMISERS
from trainables.optimisers.adam import Adam
from trainables.optimisers.base import Optimiser


class Imitation(Spec):
    """A search for the mask with which a sparse network imitates the dense one: logits and tangent kernel.

    Source: Liu & Zenke 2020 (arXiv:2006.08228), whose code gives batch, optimiser, `rerank`, `kernel` and `l2`; with
    adversarial inputs Shi et al. 2022 (arXiv:2202.06488). The other defaults are ours.
    """

    batch: int = Field(
        default=64, gt=0, description="images in a step, of which the kernel takes one half with the other"
    )
    optimiser: Annotated[Optimiser, OPTIMISERS] = Field(default=Adam(lr=5e-4), description="the optimiser")
    target: float = Field(
        default=1.0, ge=0, description="weight of the mean squared distance between sparse and dense logits"
    )
    kernel: float = Field(
        default=1e-3, ge=0, description="weight of the mean squared distance between the tangent kernels"
    )
    l2: float = Field(
        default=1e-5,
        ge=0,
        description="weight of the sum of squares of the weights that are not pruned, over the density",
    )
    target_inputs: Literal["clean", "adversarial"] = Field(default="adversarial", description="images of the logits")
    kernel_inputs: KernelInputs = Field(
        default="mixed", description="images of the kernel; mixed: one half clean, the other adversarial"
    )
    outputs: Literal["full", "sum", "random"] = Field(
        default="full",
        description="kernels of all pairs of classes, of the sum of the logits, or of a random combination of them",
    )
    attack: Annotated[Attack, ATTACKS] = Field(default=Pgd(steps=10), description="makes the adversarial images")
    eps: Eps = Field(default=Eps("8/255"), description="the attack's radius, in pixel units of [0, 1]")
    attacked: Literal["dense", "sparse"] = Field(default="dense", description="the network that is attacked")
    rerank: Interval = Field(
        default=100,
        description="steps after which the mask is set to the largest weights, not in the last ones; below 1, a share "
        "of the steps of the search",
    )
    learn: Literal["weights", "mask"] = Field(
        default="weights",
        description="weights: pruned ones keep their values and may return; mask: scores that start as the weights' "
        "absolute values, by straight-through gradients and without l2",
    )
    chunk: int | None = Field(
        default=None, gt=0, description="images of each half whose derivatives are in memory at a time; null: all"
    )

    @model_validator(mode="after")
    def _radius_fits_norm(self) -> Self:
        check_radius(self.eps, self.attack.norm)
        return self

    def reranks(self, step: int, steps: int) -> bool:
        """Return whether the mask changes after a step, counted from 1, of a search of `steps` steps."""
        every = amount(self.rerank, steps)
        return step % every == 0 and step < steps - every

    def check_length(self, steps: int) -> None:
        """Refuse a search of so few steps that the mask never changes.

        Raises:
            pydantic.ValidationError: names the field and the length.
        """
        if not self.reranks(amount(self.rerank, steps), steps):
            message = f"the mask never changes in a search of {steps} steps; set a share of them, such as 0.01"
            raise located(message, "rerank", value=self.rerank)

    @property
    def attacks(self) -> bool:
        """Whether any input is adversarial."""
        return bool((self.target and self.target_inputs != "clean") or (self.kernel and self.kernel_inputs != "clean"))
