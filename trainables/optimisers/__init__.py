"""Optimisers: what a training step does with a gradient."""

from __future__ import annotations

from trainables.core.registry import Registry
from trainables.optimisers.adam import Adam, AdamW
from trainables.optimisers.base import Optimiser
from trainables.optimisers.sgd import Sgd

OPTIMISERS: Registry[Optimiser] = Registry("optimiser", Optimiser, {"sgd": Sgd, "adam": Adam, "adamw": AdamW})
