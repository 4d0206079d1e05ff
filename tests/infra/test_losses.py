"""Machines, jobs and drivers lost in a random loop: nothing that was finished is lost, and nothing is done twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.infra import slurm
from tests.infra.conftest import require
from tests.infra.losses import SEARCHES
from tests.search.tiny import numbers, outcomes, states

pytestmark = [pytest.mark.infra, pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.mark.usefixtures("machines")
@pytest.mark.parametrize("on", SEARCHES)
def test_losses_at_random_times_lose_no_trial_and_repeat_none(on: str, tmp_path: Path) -> None:
    require(*slurm.TOOLS)
    search = SEARCHES[on](tmp_path, seed=random.randrange(10**6), trials=40)
    print(f"seed {search.tally.seed}")
    try:
        search.run(12, float("inf"), print)
    finally:
        search.close()
    tally = search.tally
    assert sum(tally.kills.values()) > 6, tally
    assert (tally.trials_lost, tally.trials_repeated, tally.parameters_changed) == (0, 0, 0)
    assert sorted(outcomes(search.study)) == numbers(search.trials)
    assert states(search.study) == {"complete": search.trials}
