"""Trials that hang, die or run out of memory, in every way that one process can: the search goes on without them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search.files import yaml
from tests.search.tiny import TINY, conclusion

PLUGIN = """
import ctypes, os, signal, time, traceback
from typing import Literal

from trainables.models import MODELS
from trainables.models.lenet import LeNet300


class Broken(LeNet300):
    kind: Literal["broken"] = "broken"
    how: str = "not"

    def network(self, shape, classes):
        # In a trial, not in the probe.
        if any(frame.filename.endswith("worker/job.py") for frame in traceback.extract_stack()):
            breaks(self.how)
        return super().network(shape, classes)


def breaks(how):
    if how == "sleeps":
        while True:
            time.sleep(0.1)
    if how == "locks":
        mutex = ctypes.create_string_buffer(64)
        for _ in range(2):
            ctypes.PyDLL(None).pthread_mutex_lock(mutex)
    if how == "stops":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "reads nothing":
        ctypes.string_at(0)
    if how == "exits":
        os._exit(7)
    if how == "raises SystemExit":
        raise SystemExit(3)
    if how == "takes all memory":
        import torch
        torch.empty(2**50)


MODELS.register("broken", Broken)
"""
WAYS = {
    "not": (None, ""),
    "sleeps": ("timeout", "no progress for 3 s"),
    "locks": ("timeout", "broken.py, line 27, in breaks"),
    "stops": ("timeout", "its process is stopped"),
    "reads nothing": ("crashed", "SIGSEGV (exit code -11)"),
    "exits": ("bug", "os._exit(7)"),
    "raises SystemExit": ("bug", "SystemExit(3)"),
    "takes all memory": ("oom", "allocate"),
}
"""By the way in which a trial breaks: the class of its failure, and a part of its message."""


def study(folder: Path, *ways: str) -> dict[str, Any]:
    """Write the plug-in; return a study with a trial for each way."""
    (folder / "broken.py").write_text(PLUGIN)
    fields = yaml.parse(TINY, "tiny.yaml").data
    return {
        **fields,
        "model": {"kind": "broken", "hidden": [16]},
        "space": {"model.how": {"kind": "categorical", "choices": [*ways]}},
        "enqueue": [{"model.how": how} for how in ways],
        "budget": {"trials": len(ways)},
        "sampler": {"kind": "random"},
        "max_failures": 0,
        "timeouts": {"silence": 3},
        "plugins": ["broken"],
    }


def failures(study: Path) -> list[dict[str, Any] | None]:
    """Return how the trials failed, in order of number."""
    return [json.loads(path.read_bytes())["failure"] for path in sorted(study.glob("trials/*/outcome.json"))]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_trials_that_hang_or_die_are_ended_and_the_search_goes_on(start: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text(json.dumps(study(tmp_path, *WAYS)))
    (tmp_path / "two.yaml").write_text("kind: local\ncpus: 2\n")
    launch = start("launch", "broken.json", "--cluster", "two.yaml")
    out, err = launch.communicate(timeout=300)
    assert launch.returncode in (0, 3), f"{out}\n{err}"
    found = failures(tmp_path / "runs/tiny")
    assert len(found) == len(WAYS)
    for failure, (kind, message) in zip(found, WAYS.values(), strict=True):
        assert (failure and failure["kind"]) == kind
        assert message in (failure["message"] if failure else "")
    assert "failed: 3 timeout, 2 bug, 1 crashed, 1 oom; trial 1 (timeout): " in conclusion(err)
    left = {path.name for path in (tmp_path / "runs/tiny").glob("trials/*/*")}
    assert left == {"trial.json", "outcome.json"}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(("way", "code"), [("locks", 2), ("reads nothing", 6)])
def test_a_network_that_hangs_or_dies_before_the_first_trial_ends_the_launch(
    start: Any, tmp_path: Path, way: str, code: int
) -> None:
    described = study(tmp_path, way)
    (tmp_path / "broken.py").write_text(PLUGIN.replace("worker/job.py", "worker/probe.py"))
    (tmp_path / "broken.json").write_text(json.dumps(described))
    (tmp_path / "one.yaml").write_text("kind: local\ncpus: 1\n")
    launch = start("launch", "broken.json", "--cluster", "one.yaml")
    out, err = launch.communicate(timeout=200)
    assert launch.returncode == code, f"{out}\n{err}"
    said = {"locks": "showed no progress for 10 s", "reads nothing": "SIGSEGV (exit code -11), in "}[way]
    assert "the small trial before the first one " in err
    assert said in err
    assert "broken.py, line 27, in breaks" in err or way != "locks"
    assert not (tmp_path / "runs/tiny").exists()


LIMITED = """
import json, resource, sys
import search
import torch

resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
study = search.launch(json.loads(sys.argv[1]), cluster="inline", storage=sys.argv[2], quiet=True)
print(study.ending.message)
"""


@pytest.mark.slow
def test_memory_that_runs_out_on_a_cpu_is_tried_again_and_recorded_as_such(tmp_path: Path) -> None:
    described = study(tmp_path, "takes all memory", "not")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIMITED, json.dumps(described), str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "failed: 1 oom; trial 0 (oom): " in done.stdout
    assert [failure and failure["kind"] for failure in failures(tmp_path / "runs/tiny")] == ["oom", None]
