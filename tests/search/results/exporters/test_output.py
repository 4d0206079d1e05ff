from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from search.results.exporters import output
from search.results.exporters.output import OutputError, write_output
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
