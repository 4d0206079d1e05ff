"""Every registered metric, by its kit."""

from __future__ import annotations

import pytest

from trainables.metrics import METRICS
from trainables.metrics.base import Metric
from trainables.testing.metrics import MetricKit

SLOW = {"distance"}


class TestMetrics(MetricKit):
    @pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in METRICS])
    def metric(self, request: pytest.FixtureRequest) -> Metric:
        return METRICS[request.param]()
