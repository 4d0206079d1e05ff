"""Learned masks: frozen weights of which a training finds the best part."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.core.spec import located
from trainables.pruning import LAYERS
from trainables.pruning.densities import LayerDensities, Uniform
from trainables.reparametrisations.base import TRAINED_ON, EffectiveWeights, Reparametrisation, Shape, TrainRest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from trainables.pruning.network import Network
    from trainables.reparametrisations.learned_weights import Sharpness
    from trainables.store.state import State


class Scored(Reparametrisation):
    """Base of learned masks.

    With `s2ap`, score-space sharpness-aware pruning, a step descends the loss at the scores that are worst nearby:
    after the attack each layer's scores move up the loss by `s2ap` times their l2 norm, the gradient is taken with the
    mask that they give there, and they move back. The weights are frozen: a training's `awp` moves nothing. The single
    step up is that of adversarial weight perturbation, as the paper's own was not at hand.
    Source: Piras et al. 2025, arXiv:2510.18381, by descriptions of it; the step: Wu et al. 2020, arXiv:2004.05884.
    """

    sparsity: float = Field(ge=0, lt=1, description="sparsity of the mask")
    layers: Annotated[LayerDensities, LAYERS] = Field(default=Uniform(), description="how much each layer uses")
    s2ap: float = Field(
        default=0.0,
        ge=0,
        description="score-space sharpness: gradients are taken where each layer's scores are worst within this share "
        "of their norm; 0 for none",
    )
    s2ap_warmup: float = Field(default=0.25, ge=0, lt=1, description="share of the search before that begins")

    def sharpness(self) -> Sharpness:
        """Return the settings of `s2ap`."""
        from trainables.reparametrisations.learned_weights import Sharpness

        return Sharpness(self.s2ap, self.s2ap_warmup)

    def build(self, state: State, generator: torch.Generator, model: nn.Module, shape: Shape) -> EffectiveWeights:
        return self.scored(state, model, shape, None)

    def build_seeing(self, network: Network) -> EffectiveWeights:
        return self.scored(network.state, network.model, network.data.shape, network)

    @abstractmethod
    def scored(self, state: State, model: nn.Module, shape: Shape, network: Network | None) -> EffectiveWeights:
        """Return the effective weights; `network` is there where `layers` may need it."""


class Scores(Scored):
    """Weights are frozen and their scores are trained; weights of highest absolute score are used, the others are 0.

    Layers use what `layers` gives them, together exactly what `sparsity` leaves. Gradients are
    straight-through: a score gets that of its weight, times the weight and the score's sign. Scores begin as
    the weights times sqrt(6 / fan_in) over the layer's largest, and decay as weights do. At the end the choice is the
    mask.
    Source: Sehwag et al. 2020, arXiv:2002.10509; the choice: Ramanujan et al. 2020, arXiv:1911.13299.
    """

    kind: Literal["scores"] = "scores"
    train_rest: TrainRest = Field(default=True, description=TRAINED_ON)

    def scored(self, state: State, model: nn.Module, shape: Shape, network: Network | None) -> EffectiveWeights:
        from trainables.reparametrisations.learned_weights import ScoredWeights

        return ScoredWeights(state, self.sparsity, self.train_rest, self.layers, self.sharpness(), network)


class Rated(Scored):
    """Scores as of `scores`, and the share of its weights that each layer uses is trained as well.

    A layer's density is floor + (1 - floor) * sigmoid(q), floor being `least` of the density that `sparsity` leaves;
    q is trained, and begins where the density is `begin`, or what `sparsity` leaves if that is more; with other
    `layers`, where these divide such a density of all weights. Added to the
    loss is gamma_t * max(0, density of all weights / wanted density - 1); gamma_t is `gamma` times the epoch, counted
    from 1, and stays what it was from the first epoch on that begins with the wanted density or less. At the end all
    densities are scaled by one factor, so that exactly what `sparsity` leaves is used. The gradient of a density is the
    sum of the gradients of its layer's mask, as if all of it rose together, as in the code. That q does not decay is
    ours; it does in the code.

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
    least: float = Field(default=0.1, gt=0, lt=1, description="least density of a layer, as a share of the wanted one")
    begin: float = Field(
        default=0.1, gt=0, lt=1, description="density of a layer at first, or the wanted one if higher"
    )
    gamma: float = Field(default=0.01, ge=0, description="weight of the penalty, times the epoch")
    train_rest: TrainRest = Field(default=True, description=TRAINED_ON)

    @model_validator(mode="after")
    def _layers_of_weights(self) -> Self:
        if self.structure == "filter" and self.layers != Uniform():
            kind = self.layers.kind
            message = f"{kind} densities to begin with are for single weights; whole filters begin alike"
            raise located(message, "layers", value=kind)
        return self

    def scored(self, state: State, model: nn.Module, shape: Shape, network: Network | None) -> EffectiveWeights:
        from trainables.models import macs
        from trainables.models.graph.channels import Wiring
        from trainables.reparametrisations.learned_filters import FilterGates
        from trainables.reparametrisations.learned_weights import Densities, RatedWeights

        counts = macs.count(model, shape) if self.counts == "macs" else {}
        uses = {name: times for name, (_, times) in counts.items()}
        settings = Densities(self.sparsity, self.least, self.begin, self.gamma, self.layers)
        sharp = self.sharpness()
        if self.structure == "filter":
            return FilterGates(state, settings, self.train_rest, Wiring(model, shape), uses, sharp)
        return RatedWeights(state, settings, self.train_rest, uses, sharpness=sharp, network=network)
