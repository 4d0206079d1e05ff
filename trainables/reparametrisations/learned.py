"""Learned masks: frozen weights of which a training finds the best part."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainables.reparametrisations.base import Weights


class Scores(Weights):
    """Weights are frozen and a score for each is trained; those of highest absolute score are used, the others are 0.

    Every layer uses the same share of its weights, together exactly what `sparsity` leaves. The gradient goes straight
    through the choice: to a score goes that of its weight, times the weight and the score's sign. Scores begin as
    the weights times sqrt(6 / fan_in) over the layer's largest, and decay as weights do. Biases and batch norm are
    trained on with `train_rest` (whether the paper does is not known to us). At the end the choice is the mask.
    Source: Sehwag et al. 2020, arXiv:2002.10509 §3; the choice: Ramanujan et al. 2020, arXiv:1911.13299 §3.2.
    """

    kind: Literal["scores"] = "scores"
    sparsity: float = Field(ge=0, lt=1)
    train_rest: bool = True


class Rated(Weights):
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
    structure: Literal["unstructured", "filter"] = "unstructured"
    counts: Literal["weights", "macs"] = "weights"
    sparsity: float = Field(ge=0, lt=1)
    least: float = Field(default=0.1, gt=0, lt=1)
    begin: float = Field(default=0.1, gt=0, lt=1)
    gamma: float = Field(default=0.01, ge=0)
    train_rest: bool = True
