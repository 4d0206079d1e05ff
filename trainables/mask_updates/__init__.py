"""Rewirings: how masks change within a training, as data; `trainables.mask_updates.tensors` computes them."""

from __future__ import annotations

from trainables.core.registry import Registry
from trainables.mask_updates.base import Fixed, Rewiring
from trainables.mask_updates.flying_bird import FlyingBird
from trainables.mask_updates.gradual import Gradual

REWIRINGS: Registry[Rewiring] = Registry("rewiring", {"fixed": Fixed, "gradual": Gradual, "flying_bird": FlyingBird})
