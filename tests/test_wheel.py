"""The wheel, outside the repository: everything that a command reads is in it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_the_packages_their_data_and_the_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for expected in (
        "search/study/builtin/quickstart.yaml",
        "clusters/gpu.yaml",
        "clusters/monitoring/robustsearch.json",
        "clusters/slurm.yaml",
        "search/cluster/carriers/slurm/job.sh",
        "search/results/report/report.html.j2",
        "search/results/report/report.css",
        "search/results/report/report.js",
        "search/py.typed",
        "trainables/py.typed",
    ):
        assert expected in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"search", "trainables", "clusters", "robustsearch"}


@pytest.mark.slow
def test_its_commands_work_where_the_repository_is_not(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    # The dependencies come from here; a path in a .pth file does not bring the editable install with it.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*arguments: str) -> str:
        code = "import sys; from search.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [str(tmp_path / "venv" / "bin" / "python"), "-c", code, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=outside, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "quickstart" in run("studies")
    run("init", "mine")
    run("validate", "mine/study.yaml", "mine/clusters/gpu.yaml")
    assert str(tmp_path) in run("launch", "--dry-run", "--json")
    where = "import search, sys; print(search.__file__)"
    python = str(tmp_path / "venv" / "bin" / "python")
    found = subprocess.run([python, "-c", where], cwd=tmp_path, env=outside, capture_output=True, text=True, check=True)
    assert str(tmp_path) in found.stdout
