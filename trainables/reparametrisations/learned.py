"""Learned masks: frozen weights of which a training finds the best part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.reparametrisations.base import EffectiveWeights, Reparametrisation, Shape

if TYPE_CHECKING:
    import torch
    from torch import nn

    from trainables.store.state import State


class Scores(Reparametrisation):
    """Weights are frozen and their scores are trained; weights of highest absolute score are used, the others are 0.

    Every layer uses the same share of its weights, together exactly what `sparsity` leaves. Gradients are
    straight-through: a score gets that of its weight, times the weight and the score's sign. Scores begin as
    the weights times sqrt(6 / fan_in) over the layer's largest, and decay as weights do. Biases and batch norm are
    trained on with `train_rest` (whether the paper does is not known to us). At the end the choice is the mask.
    Source: Sehwag et al. 2020, arXiv:2002.10509; the choice: Ramanujan et al. 2020, arXiv:1911.13299.
    """

    kind: Literal["scores"] = "scores"
    sparsity: float = Field(ge=0, lt=1, description="sparsity of the mask")
    train_rest: bool = Field(default=True, description="train biases and batch norms on")

    def build(self, state: State, generator: torch.Generator, model: nn.Module, shape: Shape) -> EffectiveWeights:
        from trainables.reparametrisations.learned_weights import ScoredWeights

        return ScoredWeights(state, self.sparsity, self.train_rest)


class Rated(Reparametrisation):
    """Scores as of `scores`, and the share of its weights that each layer uses is trained as well.

    A layer's density is floor + (1 - floor) * sigmoid(q), floor being `least` of the density that `sparsity` leaves;
    q is trained, and begins where the density is `begin`, or what `sparsity` leaves if that is more. Added to the
    loss is gamma_t * max(0, density of all weights / wanted density - 1); gamma_t is `gamma` times the epoch, counted
    from 1, and stays what it was once the wanted density is reached. At the end all densities are scaled by one
    factor, so that exactly what `sparsity` leaves is used. That the gradient of a density is the sum of the gradients
    of its layer's mask, as if all of it rose together, and that q does not decay, is ours.

    With `structure` `filter` scores are of output filters, and a density is the share of its filters that a layer uses;
    the last layer uses all. A filter that is not used is silenced with all that dies with it
    (`trainables.pruning.filters`), and the penalty counts that as well; so `begin` is at least the square root of what
    `sparsity` leaves. A filter's gate is the scale and shift of the batch norm behind it, or its weights and bias where
    there is none; scores begin as the filters' mean absolute weights, scaled as above. At the end those filters of
    lowest density * filters / rank are cut that have to be. `counts` says what the penalty counts: `weights`, or the
    multiply-accumulates of an image, `macs`; the end counts weights. Gate, beginning and end of filters are ours.
    Source: Zhao & Wressnegger 2023, "Holistic Adversarially Robust Pruning" (ICLR), and its code.
    """

    kind: Literal["rated"] = "rated"
    structure: Literal["unstructured", "filter"] = Field(
        default="unstructured", description="what has a score: a weight or an output filter"
    )
    counts: Literal["weights", "macs"] = Field(
        default="weights", description="what the penalty counts: weights, or multiply-accumulates of an image"
    )
    sparsity: float = Field(ge=0, lt=1, description="sparsity of the mask")
    least: float = Field(default=0.1, gt=0, lt=1, description="least density of a layer, as a share of the wanted one")
    begin: float = Field(
        default=0.1, gt=0, lt=1, description="density of a layer at first, or the wanted one if higher"
    )
    gamma: float = Field(default=0.01, ge=0, description="weight of the penalty, times the epoch")
    train_rest: bool = Field(default=True, description="train biases and batch norms on")

    def build(self, state: State, generator: torch.Generator, model: nn.Module, shape: Shape) -> EffectiveWeights:
        from trainables.models import macs
        from trainables.models.graph.channels import Wiring
        from trainables.reparametrisations.learned_filters import FilterGates
        from trainables.reparametrisations.learned_weights import Densities, RatedWeights

        counts = macs.count(model, shape) if self.counts == "macs" else {}
        uses = {name: times for name, (_, times) in counts.items()}
        settings = Densities(self.sparsity, self.least, self.begin, self.gamma)
        if self.structure == "filter":
            return FilterGates(state, settings, self.train_rest, Wiring(model, shape), uses)
        return RatedWeights(state, settings, self.train_rest, uses)
