"""Masking adversarial damage: weights scored by the curvature of the loss of adversarial images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.pruning.base import PrunerContext
from trainables.pruning.curvature import Blocks, factors, observe
from trainables.pruning.saliency import Inputs, Sighted

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainables.pruning.network import Network

ONE = math.log(math.expm1(1.0))
"""Where softplus is 1."""


class Mad(Sighted):
    """Keep the weights whose masking damages adversarial images most, to second order.

    For each batch of adversarial images a soft mask m, which begins at 1 and stays in (0, 1], is trained by
    `mask_steps` steps of Adam at `mask_lr` to lower their cross-entropy: the softplus of a number per weight. With
    d = w - m w, what it took away, the score is a weight's share of d' H d / 2, averaged over the images; H is the
    curvature in a layer's weights at the masked network, by K-FAC with the gradients of the true labels
    (`trainables.pruning.curvature`). `blocks`: the weights of an `output` have a block of H for themselves, or those
    of a `layer`, or every `weight`. Shares sum to their block's form, which is never negative; a single one may be,
    where a weight's change makes up for others', and is not clipped: such a weight goes first. A weight that no mask
    turns down scores 0. Batch norm is in eval mode, and biases have no mask.

    All of this is as in the authors' code, and so are all training images (`examples` None) and blocks of an output,
    but that biases are masked there; the paper's text was not at hand. Ours are the other blocks, `rounds` and other
    `inputs`, that come with the base, and `mask` False, the control: d = w, at the network as it stands; with blocks
    of a weight that is optimal brain damage (LeCun et al. 1989) on adversarial images.
    Source: Lee, Kim & Ro 2022, arXiv:2204.02738, and its code.
    """

    kind: Literal["mad"] = "mad"
    examples: int | None = Field(
        default=None, gt=0, description="training images, drawn at random for each round; null: all"
    )
    inputs: Inputs = Field(
        default="pgd",
        description="adversarial images of the network as it is, clean ones, or Gaussian noise in their place",
    )
    mask: bool = Field(default=True, description="train a soft mask; false: the damage of removing the whole weight")
    mask_steps: int = Field(default=20, gt=0, description="steps of Adam on the soft mask of each batch")
    mask_lr: float = Field(default=0.1, gt=0, description="learning rate of the soft mask")
    blocks: Blocks = Field(
        default="output", description="weights with a block of the curvature: one alone, of an output, or of a layer"
    )

    def check(self, model: nn.Module, shape: tuple[int, int, int]) -> None:
        import torch

        from trainables.store.state import prunable

        before = model.training
        images = torch.zeros(2, *shape, device=next(model.parameters()).device)
        try:
            with torch.no_grad():
                observe(model, prunable(model), lambda: model.eval()(images))
        finally:
            model.train(before)

    def scores(self, context: PrunerContext) -> dict[str, Tensor]:
        import torch

        network = context.network
        weights = {name: w.detach().contiguous() for name, w in context.weights.items()}
        total, images = {name: torch.zeros_like(w) for name, w in weights.items()}, 0
        for x, y in network.examples(self.examples, self.batch):
            for name, share in self.damage(network, weights, self._inputs(network, x, y), y).items():
                total[name] += len(y) * share
            images += len(y)
        return {name: share / images for name, share in total.items()}

    def damage(self, network: Network, weights: Mapping[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return each weight's share of the damage that the mask of these images does, shaped like the weights."""
        place = change = weights
        if self.mask:
            place = {name: weights[name] * mask for name, mask in self.masks(network, weights, x, y).items()}
            change = {name: w - place[name] for name, w in weights.items()}
        return {name: found.damage(change[name], self.blocks) for name, found in factors(network, place, x, y)}

    def masks(self, network: Network, weights: Mapping[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return soft masks in (0, 1] under which the network does better on these images."""
        import torch

        soft = torch.nn.functional.softplus
        numbers = {name: torch.full_like(w, ONE).requires_grad_() for name, w in weights.items()}
        optimiser = torch.optim.Adam(numbers.values(), lr=self.mask_lr)
        for _ in range(self.mask_steps):
            masked = {name: weights[name] * soft(number) for name, number in numbers.items()}
            loss = torch.nn.functional.cross_entropy(network.logits(masked, x), y)
            slopes = torch.autograd.grad(loss, list(numbers.values()), materialize_grads=True)
            for number, slope in zip(numbers.values(), slopes, strict=True):
                number.grad = slope
            optimiser.step()
            with torch.no_grad():
                for number in numbers.values():
                    number.clamp_(max=ONE)
        # Exactly 1 where it was not turned down: rounding is not damage.
        return {name: torch.where(n < ONE, soft(n), 1.0).detach() for name, n in numbers.items()}
