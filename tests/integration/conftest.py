"""A cluster that tests share, and launches: in this process, or in one of their own as a person would start them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import Result

from benchmarks.nodes import Nodes, cluster_file, end
from search.cluster import watchdog
from tests.search import command
from tests.search.tiny import TINY


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command line in the background; whatever it leaves behind is ended afterwards, by id."""
    begun: list[subprocess.Popen[str]] = []
    family: dict[int, psutil.Process] = {}

    def run(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "robustsearch"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **environment},
            start_new_session=True,  # As a terminal's job: a signal can be sent to all of it.
        )
        begun.append(process)
        return process

    def remember() -> None:
        for process in begun:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    family[child.pid] = child

    run.remember = remember  # type: ignore[attr-defined]
    yield run
    remember()
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()
    end(family.values())


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """A Python that has everything this one has, but not the project; None where there is no such Python."""
    site = sysconfig.get_paths()["purelib"]
    if (Path(site) / "trainables").exists():
        return None  # Only an editable install can be left out.
    bare = tmp_path_factory.mktemp("python") / "bare"
    venv.create(bare, with_pip=False, symlinks=True)
    # Named in a .pth file, a folder is searched, but its own .pth files, the editable install's, are not read.
    next((bare / "lib").glob("python*/site-packages")).joinpath("dependencies.pth").write_text(site)
    return str(bare / "bin" / "python")


@pytest.fixture(scope="session")
def cluster(bare_python: str | None) -> Iterator[Nodes]:
    """A cluster of one node for two trials, whose Python has not the project; no test may end its processes."""
    folder = Path(tempfile.mkdtemp(prefix="rs"))  # Short enough for the sockets that Ray keeps in it.
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        nodes = Nodes(folder, bare_python or sys.executable, nodes=1, cpus=2)
    yield nodes
    nodes.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def shared(cluster: Nodes, bare_python: str | None, tmp_path: Path) -> Callable[..., str]:
    """Write the cluster file of the shared cluster, with changed fields."""
    code = "ship" if bare_python else "installed"

    def write(**fields: object) -> str:
        return cluster_file(tmp_path, cluster, **{"code": code, **fields})

    return write


@pytest.fixture
def launch_here(
    shared: Callable[..., str], study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Launch on the shared cluster with this process as the driver, and check the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watchdog, "LAST_SECONDS", 1e9)  # It would end this process.

    def launch(*arguments: str, exits: int = 0, **fields: object) -> Result:
        before = dict(os.environ)
        try:
            done = command.run("launch", *(arguments or (str(study_file),)), "--cluster", shared(**fields))
            assert os.environ.get("PYTHONBREAKPOINT") == before.get("PYTHONBREAKPOINT"), "Ray has a debugger of its own"
        finally:
            os.environ.clear()
            os.environ.update(before)
        assert done.exit_code == exits, done.output
        return done

    return launch


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    place = tmp_path / "disk"
    place.mkdir()
    command_line = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    subprocess.run(command_line, check=True, capture_output=True, timeout=30)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True, timeout=30)
