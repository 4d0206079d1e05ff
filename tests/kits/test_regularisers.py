"""Every registered regulariser, by its kit."""

from __future__ import annotations

import pytest

from trainables.regularisers import REGULARISERS
from trainables.regularisers.base import Regulariser
from trainables.testing.regularisers import RegulariserKit


class TestRegularisers(RegulariserKit):
    @pytest.fixture(params=list(REGULARISERS))
    def regulariser(self, request: pytest.FixtureRequest) -> Regulariser:
        return REGULARISERS[request.param](weight=0.1)
