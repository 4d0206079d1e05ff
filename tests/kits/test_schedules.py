"""Every registered learning-rate schedule, by its kit."""

from __future__ import annotations

from typing import Any

import pytest

from trainables.method.schedules import SCHEDULES, Schedule
from trainables.testing.schedules import ScheduleKit

MORE: dict[str, dict[str, Any]] = {
    "warmed": {"kind": "cosine", "warmup": 2.0, "final": 0.1},
    "stepped": {"kind": "step", "warmup": 3.0, "cycle": 5},
}
"""Other forms of a kind, that are tested as well."""


class TestSchedules(ScheduleKit):
    @pytest.fixture(params=[*SCHEDULES, *MORE])
    def schedule(self, request: pytest.FixtureRequest) -> Schedule:
        return SCHEDULES.parse(MORE.get(request.param, request.param))
