"""Mask updates: how masks change within a training."""

from __future__ import annotations

from trainables.core.registry import Registry
from trainables.mask_updates.base import Fixed, MaskUpdate
from trainables.mask_updates.flying_bird import FlyingBird
from trainables.mask_updates.gradual import Gradual
from trainables.mask_updates.splicing import Splicing

MASK_UPDATES: Registry[MaskUpdate] = Registry(
    "mask update",
    MaskUpdate,
    {"fixed": Fixed, "gradual": Gradual, "flying_bird": FlyingBird, "splicing": Splicing},
)
