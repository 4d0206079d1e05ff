from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainables.core.errors import StorageError
from trainables.store.storage import Storage


@pytest.fixture(params=["local", "file uri", "pyarrow"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "pyarrow":
        from pyarrow import fs

        remote = Storage(str(tmp_path))
        remote._fs, remote._base = fs.LocalFileSystem(), str(tmp_path)
        return remote
    return Storage(f"file://{tmp_path}" if request.param == "file uri" else str(tmp_path))


def test_what_is_written_is_read_listed_and_deleted(storage: Storage) -> None:
    storage.write("a/b.json", b"one")
    storage.write("a/b.json", b"two")
    storage.write("a/c/d", b"")
    assert storage.read("a/b.json") == b"two"
    assert storage.names("a") == ["b.json", "c"]
    assert storage.exists("a/c")
    assert storage.age("a/b.json", os.path.getmtime(f"{storage._base}/a/b.json") + 5) == pytest.approx(5, abs=0.1)
    storage.delete("a/c")
    storage.delete("a/c")
    storage.delete("a/b.json")
    assert storage.names("a") == []
    assert storage.names("nowhere") == []
    with pytest.raises(FileNotFoundError):
        storage.read("a/b.json")


def test_a_claim_succeeds_once_and_leaves_the_first_content(storage: Storage) -> None:
    assert storage.claim("x/y", b"first")
    assert not storage.claim("x/y", b"second")
    assert storage.read("x/y") == b"first"
    assert storage.names("x") == ["y"]


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../b"])
def test_paths_that_lead_out_are_refused(storage: Storage, path: str) -> None:
    with pytest.raises(StorageError, match="leads out of the storage"):
        storage.write(path, b"")


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(str(tmp_path))
    storage.write("file", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        storage.write("file", b"new")
    assert storage.read("file") == b"old"
    assert storage.names() == ["file"]


def test_a_path_that_cannot_be_a_directory_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        Storage(str(tmp_path / "file")).write("x", b"")


def test_a_relative_directory_is_made_absolute_and_children_lie_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    child = Storage("runs").child("study")
    assert child.local == tmp_path / "runs" / "study"


def test_a_scheme_that_nobody_knows_is_named() -> None:
    with pytest.raises(StorageError, match="nosuch://"):
        Storage("nosuch://bucket/x")


@pytest.mark.parametrize("change", ["moved", "a file"])
def test_a_storage_that_was_moved_away_is_not_made_anew(tmp_path: Path, change: str) -> None:
    study = tmp_path / "runs" / "study"
    storage = Storage(str(study))
    storage.write("trials/00000/trial.json", b"one")
    (tmp_path / "runs").rename(tmp_path / "moved")
    if change == "a file":
        (tmp_path / "runs").write_text("")
    for refused in (storage.write, storage.claim):
        with pytest.raises(StorageError):
            refused("stages/abc/state", b"two")
        with pytest.raises(StorageError):
            refused("driver.json", b"two")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved"] + ["runs"] * (change == "a file")
    assert (tmp_path / "moved/study/trials/00000/trial.json").read_bytes() == b"one"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the storage, with a file."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/stage.json").write_text("not ours")
    return tmp_path / "outside"


@pytest.mark.parametrize("path", ["link", "link/stage.json", "a/deep", "a/deep/stage.json", "a/file"])
def test_nothing_is_deleted_behind_a_link(tmp_path: Path, outside: Path, path: str) -> None:
    storage = Storage(str(tmp_path / "storage"))
    storage.write("a/own", b"12345")
    (tmp_path / "storage/link").symlink_to(outside)
    (tmp_path / "storage/a/deep").symlink_to(outside)
    (tmp_path / "storage/a/file").symlink_to(outside / "stage.json")
    if path.endswith("stage.json"):
        with pytest.raises(StorageError, match="is a link"):
            storage.delete(path)
    else:
        storage.delete(path)
        assert not (tmp_path / "storage" / path).is_symlink()
    storage.delete("a")
    assert storage.names() == ["link"] * (tmp_path / "storage/link").is_symlink()
    assert (outside / "stage.json").read_text() == "not ours"


def test_a_storage_may_itself_be_a_link(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "runs").symlink_to(outside)
    storage = Storage(str(tmp_path / "runs"))
    assert storage.read("stage.json") == b"not ours"
    storage.write("a/b", b"")
    storage.delete("a/b")
    assert storage.names("a") == []
