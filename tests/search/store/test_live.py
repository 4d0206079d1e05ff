"""The state of a launch as another process reads it."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from pathlib import Path

import pytest

from search.store import driver_lock, live
from search.store.live import Header, Running, RunningTrial, Writer, driver_state
from trainables.store import paths
from trainables.store.lease import STALE_AFTER
from trainables.store.storage import Storage

TRIAL = RunningTrial(7, "train", 3, 20, 0.5, seconds=60.0, silent=2.0, host="node-1", points=2, done=0.25)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "study"))


def written(storage: Storage, token: str) -> Writer:
    writer = Writer(
        storage, Header(token, began=time.time() - 90.0, ended_before=4), lambda: Running((TRIAL,), remaining=100.0)
    )
    writer.write()
    return writer


def test_what_the_driver_writes_is_read_with_the_time_that_has_passed(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with driver_lock.acquire(storage) as lease:
        written(storage, lease.token)
        now = time.time()
        monkeypatch.setattr("time.time", lambda: now + 30.0)
        found = driver_state(storage).live
        assert found is not None
        (trial,) = found.trials
        assert (trial.seconds, trial.silent) == (pytest.approx(90.0, abs=1.0), pytest.approx(32.0, abs=1.0))
        assert dataclasses.replace(trial, seconds=60.0, silent=2.0) == TRIAL
        assert found.ended_before == 4
        assert found.remaining == pytest.approx(70.0, abs=1.0)
        assert found.at(found.written + 80.0).remaining == 0.0


def test_nothing_is_known_without_a_driver_or_from_another_one(storage: Storage) -> None:
    with driver_lock.acquire(storage) as lease:
        written(storage, lease.token)
        content = storage.read(paths.LIVE)
    storage.write(paths.LIVE, content)
    assert driver_state(storage).driver is None
    assert driver_state(storage).live is None, "its driver is gone"
    with driver_lock.acquire(storage):
        assert not storage.exists(paths.LIVE), "the next driver deletes it"
        storage.write(paths.LIVE, content)
        assert driver_state(storage).driver is not None
        assert driver_state(storage).live is None, "another driver wrote it"


def test_a_state_that_is_no_longer_renewed_is_ignored(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    with driver_lock.acquire(storage) as lease:
        written(storage, lease.token)
        now = time.time()
        monkeypatch.setattr("time.time", lambda: now - 3600.0)
        assert driver_state(storage).live is not None, "a clock that is behind is not a reason"
        monkeypatch.setattr("time.time", lambda: now + STALE_AFTER + 1.0)
        assert driver_state(storage).live is None


@pytest.mark.parametrize("change", [b"", b"{}", b"[1]", b"\xff", b'{"trials": 7}', "nan", "text"])
def test_what_cannot_be_read_is_ignored(storage: Storage, change: bytes | str) -> None:
    with driver_lock.acquire(storage) as lease:
        written(storage, lease.token)
        content = json.loads(storage.read(paths.LIVE))
        if isinstance(change, str):
            content["trials"][0]["loss"] = float("nan") if change == "nan" else "much"
        storage.write(paths.LIVE, change if isinstance(change, bytes) else json.dumps(content).encode())
        assert driver_state(storage).driver is not None
        assert driver_state(storage).live is None


def test_the_writer_renews_the_state_and_deletes_it_at_the_end(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "WRITE_EVERY", 0.001)
    asked, thrice = [], threading.Event()

    def running() -> Running:
        asked.append(threading.current_thread().name)
        if len(asked) == 3:
            thrice.set()
        return Running((TRIAL,))

    with driver_lock.acquire(storage) as lease, Writer(storage, Header(lease.token, time.time(), 0), running):
        assert thrice.wait(10.0)
        assert driver_state(storage).live is not None
    assert set(asked) == {"live"}, "the training does not wait for the disk"
    assert storage.names() == []


def test_a_storage_that_refuses_does_not_end_the_launch(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "WRITE_EVERY", 0.001)
    (Path(storage.location)).parent.mkdir(exist_ok=True)
    Path(storage.location).write_text("a file where the study should be")
    asked = threading.Event()

    def running() -> Running:
        asked.set()
        return Running(())

    with Writer(storage, Header("token", time.time(), 0), running):
        assert asked.wait(10.0)
