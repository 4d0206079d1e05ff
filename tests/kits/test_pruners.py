"""Every registered pruner, by its kit; their scores are checked in tests/trainables/pruning."""

from __future__ import annotations

from typing import Any

import pytest

from trainables.pruning import PRUNERS
from trainables.pruning.base import Pruner
from trainables.testing.pruners import PrunerKit

ATTACK = {"kind": "pgd", "steps": 2}
SMALL: dict[str, dict[str, Any]] = {
    "snip": {"examples": 20, "inputs": "pgd", "attack": ATTACK},
    "grasp": {"examples": 20},
    "synflow": {"rounds": 5},
    "ntk_sap": {"rounds": 2, "samples": 2, "batch": 20},
    "mad": {"examples": 20, "mask_steps": 3, "attack": ATTACK},
}
"""What makes a pruner fast enough for tests."""


class TestPruners(PrunerKit):
    @pytest.fixture(params=list(PRUNERS))
    def pruner(self, request: pytest.FixtureRequest) -> Pruner:
        return PRUNERS.parse({"kind": request.param, **SMALL.get(request.param, {})})
