from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.object_server import ObjectServer
from trainables.core.errors import SpecError, StorageError
from trainables.store.storage import Storage
from trainables.store.storage_options import StorageOptions


@pytest.fixture(params=["local", "file uri", "s3", "gs"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param in ("s3", "gs"):
        server: ObjectServer = request.getfixturevalue("object_server")
        return server.storage("runs/study", request.param)
    return Storage(f"file://{tmp_path}" if request.param == "file uri" else str(tmp_path))


def test_what_is_written_is_read_listed_and_deleted(storage: Storage) -> None:
    storage.write("a/b.json", b"one")
    storage.write("a/b.json", b"two")
    storage.write("a/c/d", b"")
    assert storage.read("a/b.json") == b"two"
    assert storage.names("a") == ["b.json", "c"]
    assert storage.exists("a/b.json")
    assert not storage.exists("a/b")
    assert storage.has_directory("a/c")
    assert not storage.has_directory("a/b")
    assert storage.read_all(["a/b.json", "a/none", "a/c/d"]) == [b"two", None, b""]
    assert storage.size("a") == 3
    assert storage.age("a/b.json", time.time() + 5) == pytest.approx(5, abs=2)
    storage.delete_directory("a/c")
    storage.delete_directory("a/c")
    storage.delete("a/b.json")
    storage.delete("a/b.json")
    assert storage.names("a") == []
    assert storage.names("nowhere") == []
    assert storage.size("nowhere") == 0
    for missing in ("a/b.json", "a"):
        with pytest.raises(FileNotFoundError):
            storage.read(missing) if missing != "a" or storage.local is None else storage.read("nowhere")
    with pytest.raises(FileNotFoundError):
        storage.age("a/b.json", 0.0)


@pytest.mark.parametrize("name", ["a b", "+", "%20", "é#?&=<x>", "~'()*"])
def test_names_with_unusual_characters_are_kept(storage: Storage, name: str) -> None:
    storage.write(f"{name}/{name}.json", name.encode())
    assert storage.names() == [name]
    assert storage.names(name) == [f"{name}.json"]
    assert storage.read(f"{name}/{name}.json") == name.encode()
    storage.delete_directory(name)
    assert storage.names() == []


def test_a_claim_succeeds_once_and_leaves_the_first_content(storage: Storage) -> None:
    assert storage.claim("x/y", b"first")
    assert not storage.claim("x/y", b"second")
    assert not storage.claim("x/y", b"first")
    assert storage.read("x/y") == b"first"
    assert storage.names("x") == ["y"]


def test_of_many_claims_of_one_file_with_one_content_one_succeeds(storage: Storage) -> None:
    barrier = threading.Barrier(8)
    won: list[bool] = []

    def claim() -> None:
        barrier.wait()
        won.append(storage.claim("x", b"same"))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../b"])
def test_paths_that_lead_out_are_refused(storage: Storage, path: str) -> None:
    for refused in (lambda: storage.write(path, b""), lambda: storage.read(path), lambda: storage.delete(path)):
        with pytest.raises(StorageError, match="leads out of the storage"):
            refused()


def test_directories_are_siblings_and_parents_of_each_other(storage: Storage) -> None:
    storage.write("a", b"1")
    other = storage.parent().child("other")
    other.write("b", b"2")
    assert other.parent() == storage.parent()
    assert other.names() == ["b"]
    assert set(storage.parent().names()) >= {"other", storage.location.rpartition("/")[2]}
    assert storage.names() == ["a"]


def _size(storage: Storage) -> int:
    return storage.size("")


@pytest.mark.slow
def test_another_process_opens_what_is_sent_to_it(storage: Storage) -> None:
    storage.write("a", b"12345")
    again = pickle.loads(pickle.dumps(storage))
    assert again == storage
    assert hash(again) == hash(storage)
    code = "import json, sys; from trainables.store.storage import *; print(Storage(json.loads(sys.argv[1])).read('a'))"
    sent = [sys.executable, "-c", code, json.dumps(storage.address)]
    assert subprocess.run(sent, capture_output=True, text=True, check=True).stdout == "b'12345'\n"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_size, (storage,)) == 5


def test_a_forked_process_is_refused_and_does_not_hang(object_server: ObjectServer) -> None:
    storage = object_server.storage()
    storage.write("a", b"")
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            storage.read("a")
        except StorageError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert b"forked" in os.read(reading, 1000)
    assert storage.read("a") == b""


def test_a_relative_directory_is_made_absolute_and_children_lie_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    child = Storage("runs").child("study")
    assert child.local == tmp_path / "runs" / "study"


@pytest.mark.parametrize("uri", ["nosuch://bucket/x", "hdfs://host/x", "https://bucket.s3.amazonaws.com/x"])
def test_a_scheme_that_nobody_knows_is_named_with_those_that_are_known(uri: str) -> None:
    with pytest.raises(StorageError, match=rf"{uri}: .* is none of s3:// \(S3\), gs://.*, az://.*, or a local"):
        Storage(uri)


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "gs://user@bucket/x", "s3://bucket/a/../b"])
def test_an_address_that_is_no_bucket_and_folder_is_refused(uri: str) -> None:
    with pytest.raises(StorageError, match="cannot open the storage"):
        Storage(uri)


@pytest.mark.parametrize(
    ("query", "instead"),
    [
        ("region=eu-1", "storage_options: {region: eu-1}"),
        ("endpoint_override=minio:9000&scheme=http", "{endpoint: http://minio:9000, allow_http: true}"),
        ("endpoint_override=https://s3.example.org", "ROBUSTSEARCH_STORAGE_OPTIONS='endpoint=https://s3.example.org'"),
    ],
)
def test_options_in_a_uri_are_refused_with_what_to_write_instead(query: str, instead: str) -> None:
    with pytest.raises(SpecError) as refusal:
        Storage(f"s3://bucket/x?{query}")
    assert instead in str(refusal.value)


@pytest.mark.parametrize(
    "uri",
    ["s3://key:HUSH@bucket/x", "s3://bucket/x?secret_key=HUSH", "az://c/x?sig=HUSH", "gs://b/x?token=HUSH"],
)
def test_keys_in_a_uri_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(SpecError, match="credentials") as refusal:
        Storage(uri)
    assert "HUSH" not in str(refusal.value)


def test_nothing_that_leaves_the_process_holds_keys(
    monkeypatch: pytest.MonkeyPatch, object_server: ObjectServer
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "THEKEYID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "THESECRET")
    storage = Storage("s3://bucket/x", StorageOptions(endpoint=object_server.endpoint, region="eu-1"))
    storage.write("a", b"")
    with object_server.failing(lambda method, key: (403, "AccessDenied")), pytest.raises(StorageError) as refusal:
        storage.read("a")
    shown = [repr(storage), str(storage.options), json.dumps(storage.address), str(refusal.value)]
    text = " ".join(shown) + repr(pickle.dumps(storage))
    assert "THESECRET" not in text
    assert "THEKEYID" not in text
    assert storage.address == {
        "location": "s3://bucket/x",
        "options": {"endpoint": object_server.endpoint, "region": "eu-1"},
    }
