"""Every registered rule of layer densities, by its kit."""

from __future__ import annotations

import pytest

from trainables.pruning import LAYERS
from trainables.pruning.densities import LayerDensities
from trainables.testing.layers import LayersKit

FEW = {"mrs": {"examples": 40, "batch": 25, "steps": 2, "attack": {"kind": "pgd", "steps": 2}}}
"""Fields with which a rule is fast."""


class TestLayers(LayersKit):
    @pytest.fixture(params=LAYERS)
    def layers(self, request: pytest.FixtureRequest) -> LayerDensities:
        return LAYERS.parse({"kind": request.param, **FEW.get(request.param, {})})
