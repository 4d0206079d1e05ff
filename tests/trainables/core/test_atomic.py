"""Files are complete or absent: what a write that fails half way leaves behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

import pytest

from trainables.core.atomic import replace_file, sync_directory, temporary_name, write_new


@pytest.mark.parametrize("content", [b"new", lambda file: file.write(b"new")])
def test_a_file_is_created_and_replaced(tmp_path: Path, content: object) -> None:
    path = tmp_path / "file"
    for _ in range(2):
        replace_file(path, content)  # type: ignore[arg-type]
        assert path.read_bytes() == b"new"
    sync_directory(tmp_path)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_replacement_leaves_the_old_content_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_writer_that_fails_half_way_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def half(file: IO[bytes]) -> None:
        file.write(b"ne")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        replace_file(path, half)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_new_file_replaces_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_temporary_names_lie_beside_the_file_and_differ(tmp_path: Path) -> None:
    names = {temporary_name(tmp_path / "file") for _ in range(3)}
    assert len(names) == 3
    assert {os.path.dirname(name) for name in names} == {str(tmp_path)}
