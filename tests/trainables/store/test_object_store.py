from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.object_server import LOST, Fault, ObjectServer
from trainables.core.errors import StorageError
from trainables.store import bucket_client, object_store
from trainables.store.object_store import Bucket
from trainables.store.storage import Storage
from trainables.store.storage_options import StorageOptions


@pytest.fixture(params=["s3", "gs"])
def storage(request: pytest.FixtureRequest, object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A bucket whose connection is new, and does not wait long before it repeats a request."""
    object_store.bucket.cache_clear()
    wait = {"init_backoff": timedelta(seconds=0.01), "max_backoff": timedelta(seconds=0.02), "base": 2}
    retries = {"max_retries": 2, "retry_timeout": timedelta(seconds=5), "backoff": wait}
    monkeypatch.setattr(bucket_client, "RETRIES", retries)
    return object_server.storage("study", request.param)


def times(count: int, fault: tuple[int, str] | str, method: str = "PUT") -> Fault:
    """Return what goes wrong with the first requests of a method."""
    left = [count]

    def failing(asked: str, key: str) -> tuple[int, str] | str | None:
        if asked == method and left[0] > 0:
            left[0] -= 1
            return fault
        return None

    return failing


def test_each_operation_is_one_request(storage: Storage, object_server: ObjectServer) -> None:
    storage.exists("warm")
    for operation, methods in (
        (lambda: storage.write("a", b"1"), {"PUT": 1}),
        (lambda: storage.read("a"), {"GET": 1}),
        (lambda: storage.claim("b", b"1"), {"PUT": 1}),
        (lambda: storage.exists("a"), {"HEAD": 1}),
        (lambda: storage.exists("none"), {"HEAD": 1}),
        (lambda: storage.names(), {"GET": 1}),
        (lambda: storage.has_directory("none"), {"GET": 1}),
        (lambda: storage.size(""), {"GET": 1}),
        (lambda: storage.child("x").write("a", b""), {"PUT": 1}),
        (lambda: storage.read_version("a"), {"GET": 1}),
    ):
        object_server.requests.clear()
        operation()
        assert object_server.counted() == methods


@pytest.mark.slow
def test_listings_go_on_after_a_thousand_names(storage: Storage, object_server: ObjectServer) -> None:
    for number in range(2300):
        storage.write(f"trials/{number:05d}/trial.json", b"12")
    assert len(storage.names("trials")) == 2300
    assert storage.size("trials") == 4600
    assert storage.has_directory("trials")
    storage.delete_directory("trials")
    assert object_server.buckets["bucket"] == {}


def test_a_deletion_goes_on_where_others_delete_too(storage: Storage, object_server: ObjectServer) -> None:
    for number in range(5):
        storage.write(f"a/{number}", b"")

    def meanwhile(method: str, key: str) -> tuple[int, str] | None:
        gone = method == "DELETE" and object_server.buckets["bucket"].pop(key, None) is not None and key.endswith("2")
        return (404, "NoSuchKey") if gone else None

    with object_server.failing(meanwhile):
        storage.delete_directory("a")
    assert storage.names() == []


def test_large_objects_are_sent_in_parts_and_are_there_when_they_are_complete(
    storage: Storage, object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "PART_BYTES", 5 * 1024**2)
    content = os.urandom(1024) * 12 * 1024
    seen: list[bool] = []

    def look(method: str, key: str) -> None:
        seen.append("study/big" in object_server.buckets["bucket"])

    with object_server.failing(look):
        storage.write("big", content)
    # Counted by what the server holds, as a busy machine may send a request again.
    *_, parts = object_server.uploads.values()
    assert [len(parts[number]) for number in sorted(parts)] == [5 * 1024**2, 5 * 1024**2, 2 * 1024**2]
    assert len(seen) >= 5, "a beginning, three parts, and an end"
    assert not any(seen)
    assert storage.read("big") == content


@pytest.mark.parametrize("fault", [(500, "InternalError"), (503, "SlowDown"), LOST])
@pytest.mark.parametrize("operation", ["read", "write", "names", "claim", "swap"])
def test_what_fails_in_passing_is_repeated(
    storage: Storage, object_server: ObjectServer, operation: str, fault: tuple[int, str] | str
) -> None:
    storage.write("a", b"1")
    version = storage.read_version("a")[1]
    operations: dict[str, tuple[str, Callable[[], object], object]] = {
        "read": ("GET", lambda: storage.read("a"), b"1"),
        "write": ("PUT", lambda: storage.write("a", b"2"), None),
        "names": ("GET", lambda: storage.names(), ["a"]),
        "claim": ("PUT", lambda: storage.claim("b", b"1"), True),
        "swap": ("PUT", lambda: storage.swap("a", b"3", version) is not None, True),
    }
    method, run, wanted = operations[operation]
    with object_server.failing(times(2, fault, method)):
        assert run() == wanted


def test_a_claim_whose_answer_was_lost_is_known_to_be_ones_own(storage: Storage, object_server: ObjectServer) -> None:
    with object_server.failing(times(1, LOST)):
        assert storage.claim("a", b"same")
    with object_server.failing(times(1, LOST)):
        assert not storage.claim("a", b"same"), "another's claim with the same content"


@pytest.mark.slow
def test_a_claim_that_meets_a_conflict_is_tried_again(storage: Storage, object_server: ObjectServer) -> None:
    """S3 answers so where another write of the object is under way, whether that succeeds or not."""
    with object_server.failing(times(2, (409, "ConditionalRequestConflict"))):
        assert storage.claim("a", b"1")
    with object_server.failing(times(1, (409, "ConditionalRequestConflict"))):
        assert not storage.claim("a", b"2")


def test_a_swap_needs_the_version_that_is_there(storage: Storage) -> None:
    storage.write("a", b"1")
    first = storage.read_version("a")[1]
    second = storage.swap("a", b"2", first)
    assert second not in (None, first)
    assert storage.swap("a", b"3", first) is None
    assert storage.read("a") == b"2"
    storage.delete("a")
    assert storage.swap("a", b"3", first) is None
    assert not storage.exists("a")


def test_a_store_that_heeds_conditions_is_asked_once(storage: Storage, object_server: ObjectServer) -> None:
    storage.check_exclusive()
    object_server.requests.clear()
    storage.check_exclusive()
    storage.child("other").check_exclusive()
    assert object_server.requests == []
    assert object_server.buckets["bucket"] == {}


def test_a_store_that_ignores_conditions_is_refused(storage: Storage, object_server: ObjectServer) -> None:
    object_server.conditions = False
    with pytest.raises(StorageError, match=r"does not refuse to create what exists.*If-None-Match is ignored"):
        storage.check_exclusive()
    assert object_server.buckets["bucket"] == {}


def test_a_store_that_knows_no_conditions_is_refused(storage: Storage, object_server: ObjectServer) -> None:
    with object_server.failing(times(9, (501, "NotImplemented"))), pytest.raises(StorageError, match="501"):
        storage.check_exclusive()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ((403, "AccessDenied"), r"access denied: the credentials of \S+ do not allow this \(AccessDenied\)"),
        ((403, "SignatureDoesNotMatch"), r"does not accept the credentials of \S+ \(SignatureDoesNotMatch\)"),
        ((401, "Unauthorized"), "does not accept the credentials"),
        ((404, "NoSuchBucket"), "there is no bucket [sg]s?3?://bucket: create it"),
        ((400, "AuthorizationHeaderMalformed"), "in another region, and not in us-east-1.*AWS_REGION"),
        ((503, "SlowDown"), r"too busy \(SlowDown\), after 2 retries"),
        ((507, "InsufficientStorage"), "the server answers 507 InsufficientStorage: made"),
    ],
)
def test_errors_are_said_in_words(
    storage: Storage, object_server: ObjectServer, fault: tuple[int, str], said: str
) -> None:
    with (
        object_server.failing(times(99, fault)),
        pytest.raises(StorageError, match=f"cannot write {storage.location}/a: .*{said}") as refusal,
    ):
        storage.write("a", b"1")
    assert len(str(refusal.value)) < 250
    assert "\n" not in str(refusal.value)


def test_a_server_that_is_not_there_is_said_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        storage = Storage("s3://bucket/x", StorageOptions(endpoint=f"http://127.0.0.1:{port}", anonymous=True))
        began = time.monotonic()
        with pytest.raises(StorageError, match=f"no server answers at 127.0.0.1:{port} from .*option `endpoint`"):
            storage.read("a")
        assert time.monotonic() - began < 10


def test_a_machine_without_credentials_is_told_where_they_are_looked_for(
    object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(bucket_client, "METADATA_SERVICE", closed.getsockname())
        storage = Storage("s3://bucket/x", StorageOptions(endpoint=object_server.endpoint))
        with pytest.raises(StorageError, match="has no credentials for s3://bucket; looked for: AWS_ACCESS_KEY_ID"):
            storage.read("a")


def test_an_azure_account_has_to_be_named() -> None:
    with pytest.raises(StorageError, match=r"az://c: the storage account is not known.*AZURE_STORAGE_ACCOUNT_NAME"):
        Storage("az://c/x").read("a")


def test_a_certificate_that_is_missing_on_a_machine_is_named(tmp_path: Path) -> None:
    options = StorageOptions(endpoint="https://127.0.0.1:9", ca_certificate=str(tmp_path / "none.pem"))
    with pytest.raises(StorageError, match=r"ca_certificate .*none\.pem on \S+: .*No such file"):
        Storage("s3://bucket/x", options).read("a")


def test_a_signal_ends_the_wait_for_a_silent_server(object_server: ObjectServer) -> None:
    silent, asked = threading.Event(), threading.Event()

    def hang(method: str, key: str) -> None:
        asked.set()
        silent.wait(20)

    storage = object_server.storage("study")
    storage.exists("a")

    def interrupt() -> None:
        asked.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    try:
        with object_server.failing(hang), pytest.raises(KeyboardInterrupt):
            storage.read("a")
    finally:
        silent.set()


def test_connections_are_shared_by_directories_of_one_bucket(object_server: ObjectServer) -> None:
    first, second = object_server.storage("a"), object_server.storage("b/c")
    assert first._bucket is second._bucket is first.child("x").parent()._bucket
    assert isinstance(first._bucket, Bucket)
