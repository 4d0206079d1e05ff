"""Launches in this process: the way of a worker without Ray, and how such a launch stops, fails and resumes."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from bdb import BdbQuit
from pathlib import Path
from typing import Any

import pytest

from search.cluster.spec import ClusterError, Inline, load
from search.launch import api
from search.launch.tally import Snapshot
from search.results.study import Study
from search.store import driver_lock
from tests.object_server import ObjectServer, Stored
from tests.search.command import run
from tests.search.tiny import FIELDS as TINY
from tests.trainables.data.made import made, write_classes
from trainables.core.errors import ExitCode, StorageError
from trainables.store import paths
from trainables.store.lease import LeaseHeld
from trainables.store.storage import Storage


def launch(storage: Path, study: Any = TINY, **options: Any) -> Study:
    return api.launch(study, cluster="inline", storage=storage, **{"quiet": True, **options})


def outcomes(study: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_bytes()) for path in sorted(study.glob("trials/*/outcome.json"))}


def ending(study: Study) -> tuple[int, str]:
    assert study.ending is not None
    return int(study.ending.exit_code), study.ending.message


def test_inline_and_local_are_names_of_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load("inline") == Inline()
    assert load("local").kind == "local"
    (tmp_path / "inline").write_text("kind: local\n")
    assert load("inline").kind == "local", "a file of that name comes first"


@pytest.mark.slow
def test_the_garbage_collector_passes_over_what_is_loaded_until_the_launch_ends(tmp_path: Path) -> None:
    gc.unfreeze()  # The tests' own.
    frozen: list[int] = []
    try:
        launch(tmp_path, view=lambda shown: frozen.append(gc.get_freeze_count()), quiet=False, trials=2)
        assert frozen[-1] > 0
        assert gc.get_freeze_count() == 0
    finally:
        gc.freeze()


RAY_FREE = """
import json, sys
import search
study = search.launch(json.loads(sys.argv[1]), cluster="inline", storage=sys.argv[2], trials=1)
print(study.ending.exit_code.name, "torch" in sys.modules, "ray" in sys.modules)
"""


@pytest.mark.slow
def test_ray_is_never_loaded(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RAY_FREE, json.dumps(TINY), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["DONE", "True", "False"]


@pytest.mark.slow
def test_a_launch_says_which_images_are_not_used_and_records_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTSEARCH_CACHE", str(tmp_path / "cache"))
    write_classes(tmp_path / "images" / "train", made(60, (1, 8, 8), seed=0, classes=3))
    (tmp_path / "images" / "train" / "class_1" / ".hidden.png").write_bytes(b"")
    data = {"kind": "image_folder", "root": str(tmp_path / "images"), "validation": 30, "channels": 1}
    protocol = {**TINY.get("protocol", {}), "examples": 30}
    study = launch(tmp_path / "runs", {**TINY, "data": data, "protocol": protocol}, trials=1, quiet=False)
    note = "1 file not used, hidden: train/class_1/.hidden.png"
    assert f"data: {note}" in capsys.readouterr().err
    assert study.class_names == ("class_0", "class_1", "class_2")
    assert study.records.fingerprint.data_notes == (note,)


@pytest.mark.slow
def test_a_second_launch_is_refused_while_one_is_at_work(tmp_path: Path) -> None:
    launch(tmp_path, trials=1)
    with driver_lock.acquire(Storage(str(tmp_path / "tiny"))), pytest.raises(LeaseHeld, match="is driven by process"):
        launch(tmp_path, trials=2)


def _at_first_point(do: Any) -> Any:
    """Return a view that acts once, in the middle of a trial."""
    done: list[None] = []

    def view(snapshot: Snapshot) -> None:
        if not done:
            done.append(None)
            do()

    return view


LONG = {**TINY, "recipe": {**TINY["recipe"], "epochs": 30}, "budget": {"trials": 50}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (None, 130)]
)
def test_a_stopped_launch_saves_says_so_and_resumes(number: int | None, code: int, tmp_path: Path) -> None:
    own = Storage(str(tmp_path / "tiny"))

    def stop() -> None:
        if number is None:
            driver_lock.request_stop(own)
        else:
            os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGINT)
    study = launch(tmp_path, LONG, view=_at_first_point(stop))
    assert ending(study)[0] == code
    assert ending(study)[1].startswith("stopped: 0 of 50 trials complete, 0 failed; ")
    assert signal.getsignal(signal.SIGINT) is before
    assert outcomes(tmp_path / "tiny") == {}
    assert not own.exists(paths.DRIVER)
    params = [trial.params for trial, _ in study.records.trials()]
    resumed = launch(tmp_path, "tiny", trials=1)
    assert ending(resumed)[0] == 0
    assert [trial.params for trial, _ in resumed.records.trials()] == params
    (outcome,) = outcomes(tmp_path / "tiny").values()
    assert outcome["state"] == "complete"


@pytest.mark.slow
def test_a_view_that_raises_is_not_shown_again_and_the_search_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def broken(snapshot: Snapshot) -> None:
        calls.append(snapshot)
        raise ZeroDivisionError("no picture")

    study = launch(tmp_path, view=broken, quiet=False, trials=1)
    assert ending(study)[0] == 0
    assert len(calls) == 1
    assert (
        "the view failed, and the search goes on without it: ZeroDivisionError: no picture" in capsys.readouterr().err
    )


def test_a_second_ctrl_c_ends_the_launch_at_once(tmp_path: Path) -> None:
    def stop() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    study = launch(tmp_path, LONG, view=_at_first_point(stop))
    assert ending(study)[0] == 130
    assert ending(study)[1].startswith("interrupted; ")
    assert not (tmp_path / "tiny" / paths.DRIVER).exists()


def test_a_stop_before_the_first_trial_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from search.cluster.inline import InlineConnection
    from search.launch.run import NotStarted

    monkeypatch.setattr(InlineConnection, "probe", lambda self, request, **more: None)
    with pytest.raises(NotStarted) as stopped:
        launch(tmp_path)
    assert stopped.value.exit_code == ExitCode.INTERRUPTED
    assert str(stopped.value) == "stopped before the first trial; the same command starts it"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_before_the_study_has_a_directory_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(storage: Storage) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver_lock, "acquire", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_leaving_the_debugger_during_the_probe_ends_the_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from search.launch.run import NotStarted
    from trainables.models.lenet import LeNet300

    def quits(*_: Any) -> None:
        raise BdbQuit

    monkeypatch.setattr(LeNet300, "network", quits)
    with pytest.raises(NotStarted, match="stopped before the first trial") as stopped:
        launch(tmp_path)
    assert stopped.value.exit_code == ExitCode.INTERRUPTED
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_wall_time_ends_a_launch(tmp_path: Path) -> None:
    code, message = ending(launch(tmp_path, {**LONG, "budget": {"trials": 50, "wall_time": 0.01}}))
    assert code == 3
    assert message.startswith("the wall time of 0.01 s is spent: ")


@pytest.mark.slow
def test_trials_are_stopped_early_and_screened_as_on_a_worker(tmp_path: Path) -> None:
    early = {
        **TINY,
        "early_stopping": {"kind": "moasha", "eta": 2, "grace": 1, "max_rungs": 3, "examples": 20, "steps": 1},
        "screening": {"examples": 20, "steps": 1},
        "budget": {"trials": 10},
    }
    launch(tmp_path, early)
    found = outcomes(tmp_path / "tiny").values()
    states = [outcome["state"] for outcome in found]
    assert set(states) == {"complete", "stopped"}
    assert any(outcome["rungs"] for outcome in found)


def test_gpus_that_torch_does_not_see_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="a trial asks for 64 GPUs, torch sees"):
        api.launch(TINY, cluster={"kind": "inline", "gpus_per_trial": 64}, storage=tmp_path, quiet=True)
    assert list(tmp_path.iterdir()) == []


DEBUGGED = """
import json, sys
import search
from trainables.models.lenet import LeNet300

network = LeNet300.network

def stopping(self, shape, classes):
    breakpoint()
    return network(self, shape, classes)

LeNet300.network = stopping
study = search.launch(json.loads(sys.argv[1]), cluster="inline", storage=sys.argv[2], trials=1, quiet=True)
print(study.ending.exit_code.name)
"""


@pytest.mark.slow
def test_a_breakpoint_in_a_model_stops_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DEBUGGED, json.dumps(TINY), str(tmp_path)],
        # The probe builds it, its small trial twice, and then the trial.
        input="print('hidden', self.hidden)\ncontinue\ncontinue\ncontinue\nquit\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "hidden (16,)" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("INTERRUPTED"), "leaving the debugger ends the launch, not the trial"
    assert outcomes(tmp_path / "tiny") == {}
    assert not (tmp_path / "tiny" / paths.DRIVER).exists()


@pytest.mark.slow
def test_a_launch_on_an_object_store_ends_resumes_and_is_read(
    object_server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.store.lease.LOOK_EVERY", 0.2)
    cluster = {"kind": "inline", "storage_options": object_server.options().plain()}

    def launched(**options: Any) -> Study:
        return api.launch(TINY, cluster=cluster, storage="s3://bucket/runs", quiet=True, **options)

    stop = f"runs/tiny/{paths.STOP}"
    with object_server.failing(lambda method, key: _ask_to_stop(object_server, key)):
        stopped = launched(trials=3)
    assert ending(stopped)[0] == ExitCode.INTERRUPTED
    before = {k: v for k, v in object_server.buckets["bucket"].items() if k.endswith("outcome.json")}
    assert 1 <= len(before) < 3
    object_server.requests.clear()
    study = launched(trials=3)
    assert ending(study)[0] == ExitCode.DONE
    assert [trial.trial for trial in study.trials()] == [0, 1, 2]
    assert {k: object_server.buckets["bucket"][k] for k in before} == before
    assert stop not in object_server.buckets["bucket"]
    assert f"runs/tiny/{paths.DRIVER}" not in object_server.buckets["bucket"]
    asked = sum(key == stop for _, key in object_server.requests)
    assert len(object_server.requests) - asked < 100 * (3 - len(before)), object_server.counted()
    monkeypatch.setenv("ROBUSTSEARCH_STORAGE_OPTIONS", object_server.options().words())
    for command in ("status", "status tiny", "front tiny", "doctor tiny", "gc tiny", "repair tiny", "watch tiny"):
        done = run(*command.split(), "--storage", "s3://bucket/runs")
        assert done.exit_code == 0, done.output
    table = tmp_path / "front.csv"
    done = run("export", "tiny", "--format", "csv", "--output", table, "--storage", "s3://bucket/runs")
    assert done.exit_code == 0, done.output
    assert table.read_text().startswith("point,")


def _ask_to_stop(server: ObjectServer, key: str) -> None:
    """Write the request to stop as soon as the first trial has ended."""
    if key.endswith("00001/trial.json"):
        server.buckets["bucket"].setdefault(f"runs/tiny/{paths.STOP}", Stored(b"{}", 0))


def test_a_store_that_ignores_conditions_is_refused_before_anything_starts(object_server: ObjectServer) -> None:
    object_server.conditions = False
    cluster = {"kind": "inline", "storage_options": object_server.options().plain()}
    with pytest.raises(StorageError, match="cannot hold studies"):
        api.launch(TINY, cluster=cluster, storage="gs://bucket/runs", quiet=True)
    assert object_server.buckets["bucket"] == {}
