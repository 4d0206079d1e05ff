"""Rewirings: how masks change within a training, as data; `trainables.rewire` computes them."""

from __future__ import annotations

from trainables.registry import Registry
from trainables.rewirings.base import Fixed, Rewiring
from trainables.rewirings.flying_bird import FlyingBird
from trainables.rewirings.gradual import Gradual

REWIRINGS: Registry[Rewiring] = Registry("rewiring", {"fixed": Fixed, "gradual": Gradual, "flying_bird": FlyingBird})
