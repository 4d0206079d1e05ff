"""Every registered mask update, by its kit; their schedules are checked in tests/trainables/mask_updates."""

from __future__ import annotations

from typing import Any

import pytest

from trainables.mask_updates import MASK_UPDATES
from trainables.mask_updates.base import MaskUpdate, MaskUpdateContext
from trainables.mask_updates.gradual import Gradual
from trainables.mask_updates.splicing import Splicing
from trainables.testing.mask_updates import MaskUpdateKit

FORMS: dict[str, dict[str, Any]] = {
    "gradual": {"sparsity": 0.85, "every": 2},
    "flying_bird": {"every": 2},
}
"""What lets a mask update act within the kit's 15 steps."""
MORE: dict[str, dict[str, Any]] = {
    "drawn": {"kind": "flying_bird", "every": 2, "grow": "random"},
    "plus": {"kind": "flying_bird", "every": 2, "plus": True, "window": 1, "plus_from": 0.1},
    "spliced in layers": {"kind": "splicing", "sparsity": 0.7, "slowing": 0.0, "pruning": {"scope": "layerwise"}},
    "layerwise": {"kind": "gradual", "every": 1, "end": 1.0, "pruning": {"scope": "layerwise"}},
}
"""Other forms of a kind, that are tested as well."""


class TestMaskUpdates(MaskUpdateKit):
    @pytest.fixture(params=[*MASK_UPDATES, *MORE])
    def mask_update(self, request: pytest.FixtureRequest) -> MaskUpdate:
        return MASK_UPDATES.parse(MORE.get(request.param, {"kind": request.param, **FORMS.get(request.param, {})}))

    def promised(self, mask_update: MaskUpdate, given: MaskUpdateContext) -> int | None:
        if isinstance(mask_update, Gradual):
            size = sum(mask.numel() for mask in given.masks.values() if mask.dim() > 1)
            return size - round(mask_update.sparsity_at(given.step, given.steps, given.initial) * size)
        if isinstance(mask_update, Splicing):
            return None
        return None if mask_update.needs_held_back_images else super().promised(mask_update, given)
