"""Every registered optimiser, by its kit."""

from __future__ import annotations

from typing import Any

import pytest

from trainables.optimisers import OPTIMISERS
from trainables.optimisers.base import Optimiser
from trainables.testing.optimisers import OptimiserKit

MORE: dict[str, dict[str, Any]] = {
    "plain": {"kind": "sgd", "momentum": 0.0},
    "nesterov": {"kind": "sgd", "nesterov": True},
    "decayed": {"kind": "adam", "weight_decay": 1e-3},
}
"""Other forms of a kind, that are tested as well."""


class TestOptimisers(OptimiserKit):
    @pytest.fixture(params=[*OPTIMISERS, *MORE])
    def optimiser(self, request: pytest.FixtureRequest) -> Optimiser:
        return OPTIMISERS.parse(MORE.get(request.param, request.param))
