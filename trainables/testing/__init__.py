"""Conformance kits: what every kind of a family must do, as test classes for pytest.

Derive from a family's kit and say with one fixture which spec is tested:

    from trainables.testing.losses import LossKit

    class TestFocal(LossKit):
        @pytest.fixture
        def loss(self):
            return Focal()

The kits need pytest; nothing else of `trainables` does.
"""

from __future__ import annotations

import pkgutil

import pytest

# So that a failing kit shows the values of its assertions.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
