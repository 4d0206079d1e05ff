"""Dynamic network surgery: weights are pruned and spliced back while all of them are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainables.core.spec import located
from trainables.mask_updates.base import MaskUpdate, MaskUpdateContext
from trainables.mask_updates.gradual import check_pruning
from trainables.pruning import Pruning

if TYPE_CHECKING:
    from torch import Tensor


class Splicing(MaskUpdate):
    """Prune small weights in the first step, and go on pruning and splicing: a pruned weight that has grown returns.

    Pruned weights keep values, trained by the gradients of the zeros in their place. After a step, with a chance that
    falls from 1 to 1 / (1 + `slowing`), a weight is pruned whose absolute value is at most `low` times the smallest
    within the budget, and one is spliced whose value exceeds `high` times that. The last time exactly the budget is
    kept. The code instead has fixed thresholds, of each layer's mean and standard deviation, that give no sparsity
    beforehand; `low`, `high` and `slowing` are those of its example, 14,000 steps with a chance of 1 / (1 + 0.0001 t);
    `until` is ours. Source: Guo, Yao & Chen 2016, arXiv:1608.04493, and its code.
    """

    kind: Literal["splicing"] = "splicing"
    trains_pruned: ClassVar[bool] = True
    sparsity: float = Field(default=0.9, ge=0, lt=1, description="sparsity of the budget")
    until: float = Field(default=0.75, gt=0, le=1, description="share of the training after which masks stay")
    slowing: float = Field(default=1.4, ge=0, description="how much rarer updates become until then")
    low: float = Field(default=0.9, gt=0, le=1, description="share of the smallest weight kept at which one is pruned")
    high: float = Field(default=1.1, ge=1, description="multiple of it beyond which a pruned weight returns")
    pruning: Pruning = Field(
        default=Pruning(), description="how the budget is shared between layers, and which have one"
    )

    @model_validator(mode="after")
    def _by_the_weights_alone(self) -> Self:
        check_pruning(self.pruning, "pruning")
        return self

    def due(self, step: int, steps: int) -> bool:
        return step <= self._last(steps)

    def settled(self, step: int, steps: int) -> bool:
        return step >= self._last(steps)

    def check_length(self, steps: int, epochs: int) -> None:
        if self._last(steps) < 2:
            message = f"nothing can return in a training of {steps} steps, of which masks change in one"
            raise located(message, value=steps)

    def masks(self, context: MaskUpdateContext) -> dict[str, Tensor]:
        import torch

        from trainables.pruning.cut import prune
        from trainables.store.state import State

        last = self._last(context.steps)
        draws = context.generator
        chance = 1 / (1 + self.slowing * (context.step - 1) / last)
        if 1 < context.step < last and float(torch.rand((), generator=draws, device=draws.device)) > chance:
            return dict(context.masks)
        whole = {name: torch.ones_like(context.masks[name]) for name in context.gradients}
        sizes = {name: context.params[name].detach().abs() for name in whole}
        params = {name: context.params[name].detach() for name in whole}
        kept = prune(self.pruning, self.sparsity, State(params, {}, whole), draws).masks
        if context.step < last:
            least = {name: sizes[name][mask].min() for name, mask in kept.items() if bool(mask.any())}
            if self.pruning.scope == "global" and least:
                least = dict.fromkeys(kept, torch.stack(list(least.values())).min())
            spared = self.pruning.spared(list(kept))
            kept = {
                name: mask if name in spared or name not in least else self._moved(name, context, sizes, least[name])
                for name, mask in kept.items()
            }
        return {**context.masks, **kept}

    def _moved(self, name: str, context: MaskUpdateContext, sizes: dict[str, Tensor], least: Tensor) -> Tensor:
        alive = context.masks[name]
        return (alive & (sizes[name] > self.low * least)) | (~alive & (sizes[name] > self.high * least))

    def _last(self, steps: int) -> int:
        return max(1, round(self.until * steps))
