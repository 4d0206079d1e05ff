"""Samplers: they choose the parameters of the next trial."""

from __future__ import annotations

from search.samplers.base import Sampler
from search.samplers.registry import SAMPLERS

__all__ = ["SAMPLERS", "Sampler"]
