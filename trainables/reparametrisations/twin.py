"""Weights as products of two trained factors."""

from __future__ import annotations

from typing import Literal

from trainables.reparametrisations.base import Weights


class Twin(Weights):
    """Every weight is the product of two trained factors, of which one begins as the weight, the other as `init` says.

    `kaiming_uniform` draws it from +-1/sqrt(fan_in); with `ones` the product begins as the weight (ours, for networks
    without batch norm, in which products of small factors silence the last layers). Both factors decay. A training
    that goes on has both from the one before, unless that had `fold`, which leaves the products alone.
    Source: Li et al. 2023, "Learning Adversarially Robust Sparse Networks via Weight Reparameterization" (AAAI), and
    its code.
    """

    kind: Literal["twin"] = "twin"
    init: Literal["kaiming_uniform", "ones"] = "kaiming_uniform"
    fold: bool = False
