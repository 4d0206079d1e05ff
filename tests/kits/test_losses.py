"""Every registered loss, by its kit; their formulas are in tests/trainables/losses."""

from __future__ import annotations

import pytest

from trainables.losses import LOSSES
from trainables.losses.base import Loss
from trainables.testing.losses import LossKit


class TestLosses(LossKit):
    @pytest.fixture(params=list(LOSSES))
    def loss(self, request: pytest.FixtureRequest) -> Loss:
        return LOSSES.parse(request.param)
