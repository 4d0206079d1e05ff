"""Conformance kits: what every sampler, scheduler and exporter must do, as test classes for pytest.

Derive from a family's kit and say with one fixture which spec is tested:

    from search.testing.samplers import SamplerKit

    class TestMine(SamplerKit):
        @pytest.fixture
        def sampler(self):
            return Mine()

The kits need pytest; nothing else of `search` does.
"""

from __future__ import annotations

import pkgutil

import pytest

# So that a failing kit shows the values of its assertions.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
