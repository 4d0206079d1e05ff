"""The archive that a job finds in its folder."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from search.cluster.base import ClusterError
from search.cluster.carriers import package as packages
from search.cluster.carriers.package import package


@pytest.fixture
def code(tmp_path: Path) -> list[str]:
    (tmp_path / "one_model.py").write_text("ONE = 1\n")
    folder = tmp_path / "my_models"
    for place in ("", "inner", "__pycache__", ".git"):
        (folder / place).mkdir(exist_ok=True)
        (folder / place / "part.py").write_text(f"# {place}\n")
    (folder / ".secret").write_text("hidden")
    (folder / "table.csv").write_text("a,b\n")
    return [str(folder), str(tmp_path / "one_model.py")]


def test_the_archive_holds_texts_and_code_by_their_names(code: list[str]) -> None:
    name, content = package({"study.yaml": "name: tiny\n", "inner.yaml": "kind: address\n"}, code)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(archive.namelist()) == [
            "inner.yaml",
            "my_models/inner/part.py",
            "my_models/part.py",
            "my_models/table.csv",
            "one_model.py",
            "study.yaml",
        ]
        assert archive.read("one_model.py") == b"ONE = 1\n"
    assert name.startswith("_ray_pkg_")
    assert name.endswith(".zip")


def test_its_name_tells_contents_apart_and_nothing_else(code: list[str]) -> None:
    name, content = package({"study.yaml": "one"}, code)
    os.utime(code[1], (1e9, 1e9))
    assert package({"study.yaml": "one"}, code[::-1]) == (name, content)
    assert package({"study.yaml": "two"}, code)[0] != name
    Path(code[1]).write_text("ONE = 2\n")
    assert package({"study.yaml": "one"}, code)[0] != name


def test_too_much_for_code_is_refused_by_name(code: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MOST_BYTES", 30)
    with pytest.raises(ClusterError, match=r"my_models.*keep data out of"):
        package({"study.yaml": "x" * 20}, code)


def test_a_file_that_cannot_be_read_is_named(code: list[str]) -> None:
    (Path(code[0]) / "gone.py").symlink_to("nowhere")
    with pytest.raises(ClusterError, match=r"gone\.py cannot be sent with the job"):
        package({}, code)
