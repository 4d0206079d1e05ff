"""Pruners that need the network: its gradients on images, on adversarial ones, on noise, or on none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.attacks.pgd import Pgd
from trainables.core.spec import Eps, check_radius
from trainables.pruning.base import Pruner, PrunerContext

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.pruning.network import Network

    Batches = list[tuple[Tensor, Tensor]]

Inputs = Literal["clean", "pgd", "noise"]


class Iterative(Pruner):
    """Base of pruners that may cut in rounds, with new scores for each.

    The density falls by the same factor in each round. Source: Tanaka et al. 2020, arXiv:2006.05467.
    """

    rounds: int = Field(default=1, gt=0, description="cuts, each with new scores")

    needs_network: ClassVar[bool] = True

    def sparsities(self, now: float, target: float) -> tuple[float, ...]:
        if not now < target:
            return (target,)
        step = ((1 - target) / (1 - now)) ** (1 / self.rounds)
        return (*(1 - (1 - now) * step**done for done in range(1, self.rounds)), target)


class Sighted(Iterative):
    """Base of pruners that score with labelled images."""

    examples: int | None = Field(
        default=256, gt=0, description="training images, drawn at random for each round; null: all"
    )
    batch: int = Field(default=128, gt=0, description="images in a batch")
    inputs: Inputs = Field(
        default="clean",
        description="clean images, adversarial ones of the network as it is, or Gaussian noise in their place",
    )
    attack: Annotated[Attack, ATTACKS] = Field(default=Pgd(steps=10), description="makes the adversarial images")
    eps: Eps = Field(default=Eps("8/255"), description="the attack's radius, in pixel units of [0, 1]")

    @model_validator(mode="after")
    def _radius_fits_norm(self) -> Self:
        check_radius(self.eps, self.attack.norm)
        return self

    def batches(self, network: Network) -> Batches:
        """Return inputs and labels to score with."""
        return [(self._inputs(network, x, y), y) for x, y in network.examples(self.examples, self.batch, train=True)]

    def _inputs(self, network: Network, x: Tensor, y: Tensor) -> Tensor:
        if self.inputs == "pgd":
            return network.attacked(self.attack, x, y, float(self.eps))
        return network.noise(len(x)) if self.inputs == "noise" else x


class Snip(Sighted):
    """Keep the weights whose removal changes the loss most, to first order: |g * w|.

    g is the gradient of the mean cross-entropy, batch norm on batch statistics. Source: Lee et al. 2019,
    arXiv:1810.02340; in rounds: de Jorge et al. 2021, arXiv:2006.09081.
    """

    kind: Literal["snip"] = "snip"

    def scores(self, context: PrunerContext) -> dict[str, Tensor]:
        network, weights = context.network, _leaves(context.weights)
        gradient = _slope(network, weights, self.batches(network))
        return {name: (gradient[name] * w).detach().abs() for name, w in weights.items()}


class Grasp(Sighted):
    """Keep the weights whose removal lowers the gradient's norm most: the signed score w * (H g), highest kept.

    g and H are gradient and Hessian, with respect to the prunable weights, of the mean cross-entropy of the logits over
    `temperature`, batch norm on batch statistics. Source: Wang et al. 2020, arXiv:2002.07376.
    """

    kind: Literal["grasp"] = "grasp"
    temperature: float = Field(default=200.0, gt=0, description="divisor of the logits")

    def scores(self, context: PrunerContext) -> dict[str, Tensor]:
        network, weights = context.network, _leaves(context.weights)
        batches = self.batches(network)
        held = _slope(network, weights, batches, self.temperature)
        product = _slope(network, weights, batches, self.temperature, along=held)
        return {name: (product[name] * w).detach() for name, w in weights.items()}


class Synflow(Iterative):
    """Keep the weights that most of the flow of ones through the network of absolute weights passes.

    The score is |w * dR/dw| with R the sum of the logits, all parameters absolute, the network in eval mode, on an
    input of ones behind the normalisation. No images. Source: Tanaka et al. 2020, arXiv:2006.05467.
    """

    kind: Literal["synflow"] = "synflow"
    rounds: int = Field(default=100, gt=0, description="cuts, each with new scores")

    def scores(self, context: PrunerContext) -> dict[str, Tensor]:
        import torch

        network = context.network
        # In double precision: the flow grows with every layer.
        absolute = {name: p.double().abs() for name, p in network.params.items()}
        weights = _leaves({name: absolute[name] for name in context.weights})
        ones = torch.ones(1, *network.data.shape, dtype=torch.float64, device=network.device)
        flow = network.logits({**absolute, **weights}, network.unnormalised(ones)).sum()
        slopes = torch.autograd.grad(flow, list(weights.values()))
        return {name: (w * slope).detach().abs() for (name, w), slope in zip(weights.items(), slopes, strict=True)}


class NtkSap(Iterative):
    """Keep the weights that the tangent kernel's trace depends on most, whatever the weights' values and the images.

    The score is the absolute derivative of mean |f(z; m w) - f(z; m (w + d))|^2, a finite difference for the kernel's
    trace, by the mask m, with z Gaussian noise, w a fresh initialisation and d ~ N(0, `epsilon`^2) in `samples` draws
    of a batch each; batch norm on batch statistics. 20 rounds and 5 draws are those of the authors' script for
    CIFAR-10, the rest is ours. Source: Wang et al. 2023, arXiv:2304.02840.
    """

    kind: Literal["ntk_sap"] = "ntk_sap"
    rounds: int = Field(default=20, gt=0, description="cuts, each with new scores")
    samples: int = Field(default=5, gt=0, description="initialisations and batches of noise for each cut")
    batch: int = Field(default=128, gt=0, description="inputs in a batch")
    epsilon: float = Field(default=0.01, gt=0, description="standard deviation of the change of the weights")

    def scores(self, context: PrunerContext) -> dict[str, Tensor]:
        import torch

        network = context.network
        total = {name: torch.zeros_like(w) for name, w in context.weights.items()}
        for _ in range(self.samples):
            z, drawn = network.noise(self.batch), network.redrawn()
            near = {name: p + self.epsilon * _normal(p, network) for name, p in drawn.items()}
            masks = _leaves({name: mask.to(drawn[name].dtype) for name, mask in context.masks.items()})
            here, there = (
                network.logits({**params, **{name: params[name] * m for name, m in masks.items()}}, z, train=True)
                for params in (drawn, near)
            )
            change = (here - there).square().sum(dim=1).mean()
            for name, slope in zip(masks, torch.autograd.grad(change, list(masks.values())), strict=True):
                total[name] += slope
        return {name: slope.abs() for name, slope in total.items()}


def _normal(p: Tensor, network: Network) -> Tensor:
    import torch

    return torch.randn(p.shape, generator=network.generator, device=network.device, dtype=p.dtype)


def _leaves(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().contiguous().requires_grad_() for name, t in tensors.items()}


def _slope(
    network: Network,
    weights: Mapping[str, Tensor],
    batches: Batches,
    temperature: float = 1.0,
    along: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return the gradient of the mean cross-entropy, or with `along` its Hessian times that direction."""
    import torch

    total = {name: torch.zeros_like(w) for name, w in weights.items()}
    leaves, images = list(weights.values()), sum(len(y) for _, y in batches)
    for x, y in batches:
        logits = network.logits(weights, x, train=True) / temperature
        value = torch.nn.functional.cross_entropy(logits, y, reduction="sum") / images
        if along is not None:
            first = torch.autograd.grad(value, leaves, create_graph=True)
            value = torch.stack([(g * along[name]).sum() for name, g in zip(weights, first, strict=True)]).sum()
        for name, slope in zip(weights, torch.autograd.grad(value, leaves), strict=True):
            total[name] += slope
    return total
