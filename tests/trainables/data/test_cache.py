from __future__ import annotations

import json
import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.trainables.data.made import GREY, Arrays, made, write, write_idx
from trainables.core.errors import DataError
from trainables.data import DATASETS
from trainables.data import cache as caching
from trainables.data.base import Data
from trainables.data.cache import fingerprint, training_arrays
from trainables.data.idx import Idx
from trainables.data.parquet import Parquet


@pytest.fixture
def spec(tmp_path: Path) -> Parquet:
    write("parquet", tmp_path / "root")
    return Parquet(root=str(tmp_path / "root"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count how often the files of a Parquet data set are decoded."""
    seen: list[str] = []
    decode = Parquet.read_training

    def counted(self: Parquet) -> Arrays:
        seen.append(self.kind)
        return decode(self)

    monkeypatch.setattr(Parquet, "read_training", counted)
    return seen


def test_decodes_once(spec: Parquet, reads: list[str]) -> None:
    (images, labels), first = training_arrays(spec)
    (kept, kept_labels), second = training_arrays(spec)
    assert len(reads) == 1
    assert first == second == fingerprint(spec)
    assert np.array_equal(images, kept)
    assert np.array_equal(labels, kept_labels)
    assert isinstance(kept, np.memmap)
    assert not kept.flags.writeable


def test_splits_share_what_is_cached(spec: Parquet, reads: list[str]) -> None:
    same = spec.model_copy(update={"validation": 20, "split_seed": 3, "limit": 10, "download": True})
    assert fingerprint(spec) == fingerprint(same)
    assert len(reads) == 1
    grey = spec.model_copy(update={"channels": 1})
    assert fingerprint(grey).shape == (1, 12, 20)
    assert len(reads) == 2


def test_changed_files_are_read_again(spec: Parquet, reads: list[str]) -> None:
    before = fingerprint(spec)
    shard = spec.training_files()[0]
    stat = shard.stat()
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert fingerprint(spec) == before
    assert len(reads) == 2


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "torn", "foreign", "flipped", "pickled"])
def test_damaged_cache_is_rebuilt(name: str, damage: str, spec: Parquet, cache: Path) -> None:
    (images, labels), found = training_arrays(spec)
    images, labels = images.copy(), labels.copy()
    (path,) = cache.glob(f"*.{name}")
    content = path.read_bytes()
    canary = cache / "canary"
    match damage:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "torn":
            path.write_bytes(content[: len(content) * 2 // 3])
        case "foreign":
            path.write_bytes(b"\x93NUMPY\x01\x00garbage" * 9 if name != "json" else b'["another", 1]')
        case "flipped" if name != "json":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "flipped":
            path.write_text(json.dumps({**json.loads(content), "sha256": "0" * 64}))
        case "pickled":
            path.write_bytes(pickle.dumps(_Evil(str(canary))))
    (read, read_labels), again = training_arrays(spec)
    assert again == found
    assert np.array_equal(read, images)
    assert np.array_equal(read_labels, labels)
    assert not canary.exists()
    assert fingerprint(spec) == found
    assert not list(cache.glob("*.tmp"))


class _Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (self.path, 0o700)


def test_unwritable_cache_is_done_without(
    spec: Parquet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("ROBUSTSEARCH_CACHE", str(tmp_path / "file" / "below"))
    with caplog.at_level(logging.WARNING):
        _, found = training_arrays(spec)
    assert found.images == 60
    assert "ROBUSTSEARCH_CACHE" in caplog.text


def test_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    assert caching.directory() == cache
    monkeypatch.delenv("ROBUSTSEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert caching.directory() == tmp_path / "robustsearch"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert caching.directory() == tmp_path / "home" / ".cache" / "robustsearch"


@pytest.mark.parametrize("what", ["pixel", "label", "order"])
def test_one_change_changes_the_fingerprint(what: str, tmp_path: Path) -> None:
    images, labels = made(60, GREY, seed=1)
    write_idx(tmp_path / "a", "train", (images, labels), packed=False)
    match what:
        case "pixel":
            images[17, 0, 3, 5] ^= 1
        case "label":
            labels[17] = (labels[17] + 1) % 10
        case "order":
            images, labels = images[::-1], labels[::-1]
    write_idx(tmp_path / "b", "train", (images, labels), packed=False)
    write_idx(tmp_path / "c", "train", made(60, GREY, seed=1), packed=True)
    a, b, c = (fingerprint(Idx(root=str(tmp_path / name))) for name in "abc")
    assert a[1:] == b[1:]
    assert a.sha256 != b.sha256
    assert a == c, "how the same content is stored does not matter"


def test_layouts_of_one_content_have_one_fingerprint(tmp_path: Path) -> None:
    found = set()
    for layout in ("mnist-torchvision", "mnist-idx", "mnist-parquet"):
        write(layout, tmp_path / layout)
        found.add(fingerprint(DATASETS["mnist"](root=str(tmp_path / layout))))
    assert len(found) == 1


class _Given(Data):
    """Returns the arrays it was given."""

    kind: str = "given"
    arrays: tuple[object, object] = (None, None)

    def read_training(self) -> Arrays:
        return self.arrays  # type: ignore[return-value]

    def read_test(self) -> Arrays:
        return self.read_training()


def test_data_without_files_is_not_cached(cache: Path) -> None:
    _, found = training_arrays(_Given(arrays=made(60, GREY, seed=1)))
    assert found.images == 60
    assert not cache.exists()


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((4, 1, 2, 2), np.float32), np.zeros(4, np.int64), "float32"),
        (np.zeros((4, 2, 2), np.uint8), np.zeros(4, np.int64), "3 dimensions"),
        (np.zeros((4, 1, 2, 2), np.uint8), np.zeros(4, np.int32), "int32"),
        (np.zeros((4, 1, 2, 2), np.uint8), np.zeros(3, np.int64), "3 labels"),
        (np.zeros((0, 1, 2, 2), np.uint8), np.zeros(0, np.int64), "0 images"),
        (np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1, -1, 0]), "0 or more"),
    ],
)
def test_impossible_arrays_are_refused(images: np.ndarray, labels: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        training_arrays(_Given(arrays=(images, labels)))


def test_labels_beyond_the_known_classes_are_refused(tmp_path: Path) -> None:
    images, labels = made(60, GREY, seed=1)
    write_idx(tmp_path, "train", (images, labels + 1), packed=False)
    with pytest.raises(DataError, match=r"labels lie in 1 to 10; they must be 0 to 9"):
        fingerprint(DATASETS["mnist"](root=str(tmp_path)))


def test_images_that_others_could_have_put_there_are_not_believed(
    spec: Parquet, reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shared = tmp_path / "shared"
    monkeypatch.setenv("ROBUSTSEARCH_CACHE", str(shared))
    training_arrays(spec)
    (record,) = shared.glob("*.json")
    record.chmod(0o666)
    training_arrays(spec)
    assert len(reads) == 2
    training_arrays(spec)
    assert len(reads) == 2, "what was decoded again belongs to this user"
    caching._foreign.cache_clear()
    shared.chmod(0o777)
    with caplog.at_level(logging.WARNING):
        training_arrays(spec)
    caching._foreign.cache_clear()
    assert len(reads) == 3
    assert f"{shared} can be written by all users (mode 777)" in caplog.text


def test_a_file_of_the_same_size_and_time_is_read_again(spec: Parquet, reads: list[str]) -> None:
    """As `cp -p` and `rsync -t` leave it, and tools that set times."""
    before = fingerprint(spec)
    path = spec.training_files()[0]
    stat, content = path.stat(), path.read_bytes()
    at = content.index(b"IDAT") + 4  # Of the first image.
    path.write_bytes(content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(DataError, match="row 0 is not a readable image"):
        fingerprint(spec)
    path.write_bytes(content)
    assert fingerprint(spec) == before
    assert len(reads) == 3


def test_notes_are_those_of_the_files_as_they_are_now(spec: Parquet) -> None:
    notes = caching.described(spec).notes
    assert (
        notes == spec.unused_files() == ("1 file not used, of another split by the name: test-00000-of-00001.parquet",)
    )
    (Path(spec.root or "") / "extra.parquet").touch()
    assert caching.described(spec).notes == spec.unused_files() != notes


def test_a_cache_whose_name_is_too_long_is_not_used(
    spec: Parquet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ROBUSTSEARCH_CACHE", f"/{'x' * 300}/cache")
    with caplog.at_level(logging.WARNING):
        training_arrays(spec)
    assert "decoded images are not cached: " in caplog.text
