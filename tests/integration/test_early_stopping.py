"""Early stopping on a real local Ray: trials are stopped where they stand, recorded, and left out of the front."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.launch.driver import Driver
from search.results.study import Study
from search.store.records import Records
from tests.integration.waiting import wait_for
from tests.search.tiny import TINY
from trainables.store.storage import Storage

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

Start = Callable[..., "subprocess.Popen[str]"]

EARLY = f"""{TINY.replace("choices: [0.05, 0.1]", "choices: [0, 0.02, 0.05, 0.1]")}
early_stopping: {{kind: moasha, grace: 1, eta: 2, max_rungs: 4, examples: 64, steps: 2}}
"""


def _outcomes(study: Path) -> dict[str, Any]:
    return {p.parent.name: json.loads(p.read_text()) for p in sorted(study.glob("trials/*/outcome.json"))}


def _states(study: Path) -> Counter[str]:
    return Counter(outcome["state"] for outcome in _outcomes(study).values())


def test_some_trials_stop_the_launch_ends_well_and_goes_on_after_a_kill(start: Start, tmp_path: Path) -> None:
    file, study = tmp_path / "tiny.yaml", tmp_path / "runs" / "tiny"
    file.write_text(EARLY)
    first = start("launch", str(file), "--trials", "14")
    wait_for(lambda: _states(study)["stopped"] >= 1 and len(_outcomes(study)) >= 5, 200)
    start.remember()  # type: ignore[attr-defined]
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = _outcomes(study)
    again = start("launch", str(file), "--trials", "14")
    out, err = again.communicate(timeout=240)
    assert again.returncode == 0, out + err
    after = _outcomes(study)
    assert {name: after[name] for name in before} == before
    assert len(after) == 14
    states = _states(study)
    assert states["stopped"] + states["complete"] == 14
    assert min(states["stopped"], states["complete"]) >= 2
    assert f"{states['complete']} of 14 trials complete, {states['stopped']} stopped early, 0 failed" in err

    stopped = {name: outcome for name, outcome in after.items() if outcome["state"] == "stopped"}
    for outcome in stopped.values():
        assert outcome["rungs"] or outcome["points"]
        assert outcome["failure"] is None
        assert outcome["params"]
    read = Study.open(str(study))
    assert read.summary().stopped == len(stopped)
    assert not {row.trial for row in read.points()} & {int(name) for name in stopped}
    assert not {row.trial for row in read.front()} & {int(name) for name in stopped}

    driver = Driver(Records.open(Storage(str(study))))
    trials = [row for row in driver._sampling.observations if row.origin == "own"]
    assert Counter(trial.state for trial in trials)["stopped"] == len(stopped)
