"""Noise on weights with trained strength."""

from __future__ import annotations

from typing import Literal

from trainables.reparametrisations.base import Weights


class Noise(Weights):
    """Every forward pass uses weights + coefficient * sigma * eta, with fresh eta from a standard normal.

    Sigma is the standard deviation of the layer's weights at that moment, without gradient; the coefficients, one per
    `layer`, output `channel` or `element`, begin at `init`, are trained with the weights, are of either sign, and
    have no weight decay. `sigma_over` takes sigma over all weights of a layer or over those that are
    not 0; `mask` keeps noise off pruned weights. Without `in_training` the loss sees the weights without noise.
    The attack in training meets `fresh` noise in every pass, noise `held` for a batch, or none (`off`). What the papers
    say of the last four is not known to us, but that noise is on in training and attack; the rest is our default.
    Source: Rakin et al. 2019, arXiv:1905.13074 (`channel`); the noise is that of He et al. 2019, arXiv:1811.09310 §3.
    """

    kind: Literal["noise"] = "noise"
    coefficients: Literal["layer", "channel", "element"] = "channel"
    init: float = 0.25
    sigma_over: Literal["all", "nonzero"] = "all"
    mask: bool = True
    in_training: bool = True
    in_attack: Literal["fresh", "held", "off"] = "fresh"
