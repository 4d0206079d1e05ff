"""Launches on a Ray of their own, stopped and killed in every way, and each resumed by the next."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from search.results.study import Study
from tests.integration.waiting import wait_for
from tests.search import command
from tests.search.tiny import TINY, conclusion, numbers, outcomes, params, states
from trainables.store import paths

pytestmark = [pytest.mark.ray, pytest.mark.slow]

Start = Callable[..., "subprocess.Popen[str]"]
STUDY = TINY.replace("epochs: 4", "epochs: 10") + "max_failures: 0\n"
"""No trial may fail: whatever ends a launch is not a failure of its trials."""
NEVER_IMPORTED = ("search", "trainables", "clusters", "random", "ray", "json", "torch", "numpy", "sitecustomize")
"""Modules in the current directory that no process of a launch imports."""
ENDS = {
    "ctrl-c": (130, "stopped: "),
    "closed terminal": (129, "stopped: "),
    # Where Ray was ended too, or nobody waits for it, nothing is counted.
    "sigterm to all": (143, "interrupted; "),
    "ctrl-c twice": (130, "interrupted; "),
    "killed": (-signal.SIGKILL, ""),
    "gcs_server": (6, "the Ray cluster has died; "),
    "raylet": (6, "the Ray cluster has died; "),
}
"""By the way in which a launch ends: its exit code, and how its last line begins. Tests of the inline runner and of a
shared cluster show SIGTERM to the driver alone, and `robustsearch stop`."""


def _finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, f"exit code {process.returncode}, not {code}\n{out}\n{err}"
    return out, err


def _end(how: str, launch: subprocess.Popen[str]) -> None:
    """End a launch as a person, a system or an accident does; a terminal and a service manager tell all processes."""
    group: Callable[[int], None] = lambda number: os.killpg(launch.pid, number)  # noqa: E731
    if how in ("gcs_server", "raylet"):
        (vital,) = [child for child in psutil.Process(launch.pid).children() if child.name() == how]
        vital.kill()
    elif how == "ctrl-c twice":
        # Workers that stand still save nothing, so that the launch still waits for them when the second comes. Between
        # two trials, and while one begins, they have another title.
        for child in psutil.Process(launch.pid).children(recursive=True):
            if child.is_running() and child.cmdline() and child.cmdline()[0].startswith("ray::"):
                child.suspend()
        group(signal.SIGINT)
        # The first has been noted when the handler for the second is in place; Python runs handlers one by one.
        # Two that wait while native code runs are one to Python.
        time.sleep(0.5)
        group(signal.SIGINT)
    elif how == "killed":
        launch.kill()
    else:
        group({"ctrl-c": signal.SIGINT, "sigterm to all": signal.SIGTERM, "closed terminal": signal.SIGHUP}[how])


@pytest.mark.timeout(900)
def test_a_stopped_launch_says_so_and_resumes(start: Start, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    (tmp_path / "two.yaml").write_text("kind: local\ncpus: 2\n")
    canary = tmp_path / "imported.txt"
    for name in NEVER_IMPORTED:
        (tmp_path / f"{name}.py").write_text(f"open({str(canary)!r}, 'a').write({name!r})")
    study = tmp_path / "runs" / "tiny"
    saved: dict[str, bytes] = {}
    issued: dict[str, Any] = {}
    before = ""
    for how, (code, beginning) in ENDS.items():
        launch = start("launch", "tiny.yaml", "--cluster", "two.yaml", "--trials", "500")
        # A trial that is new: those from before may have ended by themselves, and are recorded before Ray starts.
        enough = len(issued) + 1
        wait_for(lambda: len(outcomes(study)) >= enough or launch.poll() is not None, 120)  # noqa: B023
        if how == "ctrl-c":
            _refused_beside(launch, tmp_path)
        start.remember()  # type: ignore[attr-defined]
        _end(how, launch)
        _, err = _finish(launch, code)
        assert before in err, how
        before = ""
        if how == "killed":
            before = f"took over the study from process {launch.pid}"
        else:
            last = conclusion(err)
            assert last.startswith(beginning), (how, err)
            assert "`robustsearch launch` with the same study resumes it in" in last
            assert not (study / paths.DRIVER).exists(), how
        assert "Traceback" not in err, (how, err)
        ended, given = outcomes(study), params(study)
        assert {name: ended[name] for name in saved} == saved, how
        assert {name: given[name] for name in issued} == issued, how
        assert states(study).keys() == {"complete"}, (how, "no trial has failed")
        saved, issued = ended, given
    _finish_the_issued(start, study, saved, issued)
    assert not canary.exists(), canary.read_text()


def _refused_beside(launch: subprocess.Popen[str], folder: Path) -> None:
    """Launch the study beside a launch that is at work."""
    done = command.run("launch", "tiny", "--storage", folder / "runs")
    assert done.exit_code == 5, done.output
    assert f"is driven by process {launch.pid} on" in conclusion(done.stderr)


def _finish_the_issued(start: Start, study: Path, saved: dict[str, bytes], issued: dict[str, Any]) -> None:
    """Launch until all trials that were issued have ended."""
    total = len(issued)
    out, err = _finish(start("launch", "tiny", "--cluster", "two.yaml", "--trials", str(total), NO_COLOR="1"))
    assert "metrics for Prometheus: http://127.0.0.1:" in err
    assert f"{total} of {total} trials complete, 0 failed" in conclusion(err)
    assert "\x1b" not in out + err
    assert sorted(outcomes(study)) == numbers(total)
    assert {name: outcomes(study)[name] for name in saved} == saved
    for row in Study.open(str(study)).front():
        assert row.point in out
