from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.object_server import ObjectServer
from trainables.core.errors import RobustsearchError, StorageError
from trainables.store import lease
from trainables.store.lease import Lease, LeaseHeld, acquire, holder, living_holder
from trainables.store.storage import Storage

PATH = "work.json"


@pytest.fixture(params=["local", "s3", "gs"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return Storage(str(tmp_path / "study"))
    server: ObjectServer = request.getfixturevalue("object_server")
    return server.storage("study", request.param)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def forge(storage: Storage) -> Callable[..., None]:
    """Write a lease as another process would have, changed by keywords."""

    def write(**changes: object) -> None:
        acquire(storage, PATH).release()
        with acquire(storage, PATH):
            found = json.loads(storage.read(PATH))
        storage.write(PATH, json.dumps({**found, "token": "f00", **changes}).encode())

    return write


def since_boot(pid: int) -> float:
    return psutil.Process(pid).create_time() - psutil.boot_time()


def test_second_holder_is_refused_by_host_and_pid(storage: Storage) -> None:
    with acquire(storage, PATH) as held:
        assert held.before is None
        with pytest.raises(LeaseHeld, match=rf"process {os.getpid()} on \S+") as refusal:
            acquire(storage, PATH)
        assert isinstance(refusal.value, RobustsearchError)
        assert living_holder(storage, PATH) == holder(storage, PATH)
    assert living_holder(storage, PATH) is None
    assert storage.names() == []


def test_holder_in_another_process_is_refused_and_taken_over_when_killed(
    storage: Storage, forge: Callable[..., None], sleeper: subprocess.Popen[bytes]
) -> None:
    forge(pid=sleeper.pid, process_started=since_boot(sleeper.pid))
    with pytest.raises(LeaseHeld, match=f"process {sleeper.pid} "):
        acquire(storage, PATH)
    sleeper.kill()
    time.sleep(0.05)
    # Not yet reaped: a zombie is at work on nothing.
    with acquire(storage, PATH) as held:
        assert held.before is not None
        assert f"process {sleeper.pid} " in held.before
        assert living_holder(storage, PATH).pid == os.getpid()  # type: ignore[union-attr]
    assert storage.names() == []


def test_a_lease_that_is_released_and_acquired_during_a_takeover_has_one_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path))
    acquire(storage, PATH)._done.set()  # Its process is as good as dead: nothing beats, and nothing releases it.
    dead = json.loads(storage.read(PATH))
    storage.write(PATH, json.dumps({**dead, "token": "f00", "process_started": dead["process_started"] - 500}).encode())
    others: list[Lease] = []
    read, looks = Storage.read, iter(range(9))

    def interrupted(found: Storage, path: str) -> bytes:
        if next(looks) == 0:
            return read(found, path)
        # Another process has taken the lease over and released it, and a third acquires it.
        monkeypatch.undo()
        found.delete(path)
        others.append(acquire(found, path))
        raise FileNotFoundError(path)

    monkeypatch.setattr(Storage, "read", interrupted)
    with pytest.raises(LeaseHeld, match="is being replaced by another process"):
        acquire(storage, PATH)
    assert holder(storage, PATH) == others[0]._mine
    others[0].check()
    others[0].release()
    assert storage.names() == []


def test_reused_process_number_is_not_the_holder(storage: Storage, forge: Callable[..., None]) -> None:
    forge(pid=os.getpid(), process_started=since_boot(os.getpid()) - 500)
    with acquire(storage, PATH) as held:
        assert held.before is not None


def test_clock_change_does_not_end_a_lease(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    with acquire(storage, PATH):
        now = time.time()
        monkeypatch.setattr(lease.time, "time", lambda: now + 7200)
        with pytest.raises(LeaseHeld):
            acquire(storage, PATH)
        monkeypatch.setattr(lease.time, "time", lambda: now - 7200)
        with pytest.raises(LeaseHeld):
            acquire(storage, PATH)


@pytest.mark.parametrize("elsewhere", [{"host": "node-7"}, {"machine": "another container"}])
def test_other_machine_is_judged_by_its_heartbeat(
    storage: Storage, forge: Callable[..., None], elsewhere: dict[str, str]
) -> None:
    forge(**elsewhere, heartbeat=time.time() - 50)
    with pytest.raises(LeaseHeld, match=str(elsewhere.get("host", "process"))):
        acquire(storage, PATH)
    forge_again = json.loads(storage.read(PATH)) | {"heartbeat": time.time() - 61}
    storage.write(PATH, json.dumps(forge_again).encode())
    with acquire(storage, PATH) as held:
        assert held.before is not None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"pid": 1}', b"[" * 100_000, b"\xff", b'{"pid": "x"}', b'{"host":"h"}' * 2],
)
def test_damaged_lease_is_taken_over(storage: Storage, content: bytes) -> None:
    storage.write(PATH, content)
    assert living_holder(storage, PATH) is None
    with acquire(storage, PATH) as held:
        assert held.before == "a process whose lease cannot be read"


def test_hostile_numbers_in_a_lease_do_not_crash(storage: Storage, forge: Callable[..., None]) -> None:
    for changes in ({"pid": 10**30}, {"pid": -1}, {"started": 1e300}, {"token": "../../x"}, {"token": "a" * 9999}):
        forge(**{"process_started": 0, **changes})
        with acquire(storage, PATH) as held:
            assert held.before is not None
        assert storage.names() == []


def test_of_many_that_take_over_one_succeeds(storage: Storage, forge: Callable[..., None]) -> None:
    forge(process_started=-1)
    won: list[lease.Lease] = []
    refused: list[LeaseHeld] = []
    barrier = threading.Barrier(8)

    def contend() -> None:
        barrier.wait()
        try:
            won.append(acquire(storage, PATH))
        except LeaseHeld as busy:
            refused.append(busy)

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 7)
    won[0].release()
    assert storage.names() == []


def test_heartbeat_is_renewed_and_a_lost_lease_is_detected(
    storage: Storage, forge: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_EVERY", 0.02)
    with acquire(storage, PATH) as held:
        first = holder(storage, PATH)
        deadline = time.monotonic() + 5
        while holder(storage, PATH) == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert holder(storage, PATH).heartbeat > first.heartbeat  # type: ignore[union-attr]
        held.check()
        other = json.loads(storage.read(PATH)) | {"token": "b0b", "host": "node-7"}
        held._done.set()
        held._thread.join()
        storage.write(PATH, json.dumps(other).encode())
        held.beat()
        with pytest.raises(LeaseHeld, match="node-7"):
            held.check()
        held._done.clear()
    assert holder(storage, PATH).host == "node-7", "another's lease is not released"  # type: ignore[union-attr]


def test_a_directory_that_vanishes_is_not_made_anew(storage: Storage) -> None:
    with acquire(storage, PATH) as held:
        storage.delete_directory("")
        held.beat()
        with pytest.raises(StorageError, match="was deleted"):
            held.check()
        assert not storage.has_directory()


def test_a_request_is_noticed(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LOOK_EVERY", 0.02)
    with acquire(storage, PATH, "stop.request") as held:
        assert not held.requested()
        storage.write("stop.request", b"")
        deadline = time.monotonic() + 20
        while not held.requested() and time.monotonic() < deadline:
            assert storage.local is None, "on a disk it is seen at once"
            time.sleep(0.01)
        assert held.requested()


def test_a_lease_on_an_object_store_costs_a_request_each_beat_and_look(
    object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with acquire(object_server.storage("study"), PATH, "stop.request") as held:
        for _ in range(100):
            assert not held.requested()
        assert object_server.counted() == {"PUT": 1}
        held.beat()
        object_server.requests.clear()
        held.beat()
        held.beat()
        assert object_server.counted() == {"PUT": 2}
        held.check()


def test_a_lease_on_an_object_store_that_was_deleted_by_hand_is_claimed_again(object_server: ObjectServer) -> None:
    storage = object_server.storage("study")
    storage.write("study.yaml", b"")
    with acquire(storage, PATH) as held:
        held.beat()
        storage.delete(PATH)
        held.beat()
        held.check()
        assert holder(storage, PATH) is not None
