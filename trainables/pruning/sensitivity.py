"""Layer densities by how much the robust loss rises where a layer's weights are worst nearby."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.attacks.pgd import Pgd
from trainables.core.spec import Eps, check_radius
from trainables.pruning.densities import LayerDensities, living, share

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.pruning.network import Network

    Batches = list[tuple[Tensor, Tensor]]

_FINE = 10**6
"""Densities are compared in whole numbers of this part, so that what is shared is exact."""


class Sensitivity(LayerDensities):
    """Module robustness sensitivity: layers keep more the more the robust loss depends on their weights.

    A layer's sensitivity is how far the mean cross-entropy of adversarial images, made once for the network as it is,
    rises where that layer's weights alone climb it: `steps` passes of gradient ascent over the images, after each of
    which the way is projected to `radius` times the weights' l2 norm; the highest loss counts. Batch norm is in eval
    mode. With r from 0 for the least sensitive layer to 1 for the most, densities are in proportion to
    `floor` + (1 - `floor`) r, none above 1.

    The idea is that of Bai, Tabia & Santos-Rodriguez 2025, arXiv:2410.15176, whose formula was not at hand. The
    sensitivity is the module robust criticality of Zhu et al. 2023, arXiv:2308.02533, as its code has it; that code
    measures on test images, this on training images. The step from sensitivities to densities, and `floor`, are ours.
    """

    kind: Literal["mrs"] = "mrs"
    examples: int | None = Field(default=1000, gt=0, description="training images, drawn at random; null: all")
    batch: int = Field(default=512, gt=0, description="images in a step")
    attack: Annotated[Attack, ATTACKS] = Field(default=Pgd(steps=10), description="makes the adversarial images")
    eps: Eps = Field(default=Eps("8/255"), description="the attack's radius, in pixel units of [0, 1]")
    steps: int = Field(default=10, gt=0, description="passes of gradient ascent over the images")
    lr: float = Field(default=1.0, gt=0, description="learning rate of the ascent")
    radius: float = Field(default=0.1, gt=0, description="how far weights move at most, as a share of their norm")
    floor: float = Field(
        default=0.1, gt=0, le=1, description="density of the least sensitive layer, as a share of the most sensitive's"
    )

    needs_network: ClassVar[bool] = True

    @model_validator(mode="after")
    def _radius_fits_norm(self) -> Self:
        check_radius(self.eps, self.attack.norm)
        return self

    def shares(
        self, total: int, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], network: Network | None
    ) -> list[int]:
        assert network is not None, "the framework gives the network to a rule that needs it"
        found = self.sensitivities(network, weights, masks)
        low, high = min(found.values()), max(found.values())
        ranks = {name: (value - low) / (high - low) if high > low else 1.0 for name, value in found.items()}
        parts = {name: round(_FINE * (self.floor + (1 - self.floor) * rank)) for name, rank in ranks.items()}
        return share(total, [parts[name] * mask.numel() for name, mask in masks.items()], living(masks))

    def sensitivities(
        self, network: Network, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """Return how far the loss of adversarial images rises for each layer, at least 0."""
        images = network.examples(self.examples, self.batch)
        batches = [(network.attacked(self.attack, x, y, float(self.eps)), y) for x, y in images]
        begun = _loss(network, {}, batches)
        risen = {name: self._risen(network, name, w, masks[name], batches) for name, w in weights.items()}
        return {name: max(0.0, loss - begun) for name, loss in risen.items()}

    def _risen(self, network: Network, name: str, weight: Tensor, mask: Tensor, batches: Batches) -> float:
        """Return the highest loss on the way up from a layer's weights; pruned ones stay."""
        import torch

        start = torch.where(mask, weight.detach(), 0.0).contiguous()
        limit = self.radius * start.norm()
        at, highest = start.clone(), -float("inf")
        for _ in range(self.steps):
            for x, y in batches:
                at.requires_grad_()
                loss = torch.nn.functional.cross_entropy(network.logits({name: at}, x), y)
                (slope,) = torch.autograd.grad(loss, [at], materialize_grads=True)
                at = at.detach() + self.lr * torch.where(mask, slope, 0.0)
            way = at - start
            at = start + way * (limit / way.norm().clamp_min(1e-12)).clamp(max=1.0)
            highest = max(highest, _loss(network, {name: at}, batches))
        return highest


def _loss(network: Network, weights: Mapping[str, Tensor], batches: Batches) -> float:
    """Return the mean cross-entropy of images with these weights in place of the network's own."""
    import torch

    with torch.no_grad():
        sums = [
            torch.nn.functional.cross_entropy(network.logits(weights, x), y, reduction="sum").double()
            for x, y in batches
        ]
    return float(torch.stack(sums).sum()) / sum(len(y) for _, y in batches)
