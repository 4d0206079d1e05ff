from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainables.core.errors import StorageError
from trainables.store.storage import Storage


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
        with pytest.raises(StorageError, match="is a link"):
            storage.delete_directory(path)
    else:
        storage.delete_directory(path)
        assert not (tmp_path / "storage" / path).is_symlink()
    storage.delete_directory("a")
    assert storage.names() == ["link"] * (tmp_path / "storage/link").is_symlink()
    assert (outside / "stage.json").read_text() == "not ours"


def test_a_storage_may_itself_be_a_link(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "runs").symlink_to(outside)
    storage = Storage(str(tmp_path / "runs"))
    assert storage.read("stage.json") == b"not ours"
    storage.write("a/b", b"")
    storage.delete("a/b")
    assert storage.names("a") == []
