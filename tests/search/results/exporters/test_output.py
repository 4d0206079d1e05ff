from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from search.results.exporters import output
from search.results.exporters.output import OutputError, full_disk_reported, write_directory, write_output
from trainables.core.errors import StorageError


def test_file_and_its_directory_are_made(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "front.csv"
    assert write_output(b"x", target) == target
    assert target.read_bytes() == b"x"
    assert [path.name for path in target.parent.iterdir()] == ["front.csv"]


def test_regular_file_is_replaced_and_a_link_keeps_pointing(tmp_path: Path) -> None:
    target = tmp_path / "front.csv"
    target.write_bytes(b"old")
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    write_output(b"new", link)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_directory_and_special_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a directory"):
        write_output(b"x", tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(OutputError, match="not a regular file"):
            write_output(b"x", path)
    assert OutputError.exit_code == 2


def test_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file/front.csv", "a" * 300, "nul\0byte", "loop"):
        path = tmp_path / name
        if name == "loop":
            path.symlink_to(path)
        with pytest.raises(OutputError, match="cannot write"):
            write_output(b"x", path)


def test_records_of_the_study_are_never_replaced(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (study / "study.yaml").write_text("precious")
    (tmp_path / "alias").symlink_to(study)
    for path in (
        study / "study.yaml",
        tmp_path / "alias" / "study.yaml",
        study / "trials" / "x.csv",
        study / "new.csv",
    ):
        with pytest.raises(OutputError, match="inside the study's directory"):
            write_output(b"x", path, records=study)
    assert (study / "study.yaml").read_text() == "precious"
    assert sorted(path.name for path in study.iterdir()) == ["study.yaml"]
    write_output(b"x", study / "exports" / "front.csv", records=study)
    write_output(b"x", tmp_path / "front.csv", records=study)


def test_read_only_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "front.csv"
    target.write_bytes(b"old")
    # The superuser may write everything, so permissions are simulated.
    monkeypatch.setattr(output.os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="read-only"):
        write_output(b"new", target)
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, StorageError), (errno.EIO, StorageError), (errno.EACCES, OutputError)]
)
def test_failure_on_the_way_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    target = tmp_path / "front.csv"
    target.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(output.os, name, fail)
            with pytest.raises(error, match="cannot write"):
                write_output(b"new", target)
        assert target.read_bytes() == b"old"
        assert [path.name for path in tmp_path.iterdir()] == ["front.csv"]


def test_a_directory_appears_once_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "x"

    def fill(folder: Path) -> None:
        assert not target.exists()
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("content")

    assert write_directory(fill, target) == target
    assert (target / "deep" / "file").read_text() == "content"
    assert list(target.parent.iterdir()) == [target]


def test_a_directory_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "file").write_text("content")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(StorageError, match="full"):
        write_directory(fail, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["directory", "file", "link", "records"])
def test_a_directory_replaces_nothing(tmp_path: Path, there: str) -> None:
    target = tmp_path / "x"
    if there in ("directory", "link"):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "file").write_text("notes")
        target = tmp_path / "mine"
    if there == "link":
        target = tmp_path / "x"
        target.symlink_to(tmp_path / "mine")
    if there == "file":
        target.write_text("notes")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=r"name a new directory|inside the study's directory"):
        write_directory(lambda folder: None, target, records=tmp_path if there == "records" else None)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_recognised_in_what_a_library_raises(tmp_path: Path) -> None:
    def fail() -> None:
        try:
            raise sqlite3.OperationalError("database or disk is full")
        except sqlite3.OperationalError as error:
            raise KeyError("of the library") from error

    with pytest.raises(StorageError, match=r"cannot write .*x: No space left"), full_disk_reported(tmp_path / "x"):
        fail()
    with pytest.raises(KeyError), full_disk_reported(tmp_path / "x"):
        raise KeyError("of ours")
