"""Clusters that run already: three real nodes, tokens, and workers that have not the project."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import sysconfig
import urllib.request
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.conftest import end, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

Start = Callable[..., "subprocess.Popen[str]"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Head:
    """A Ray head node in processes of its own, with a token, and as many more nodes as asked for."""

    def __init__(self, folder: Path, python: str, nodes: int, cpus: int = 1) -> None:
        self.folder = folder
        self.token = folder / "token"
        self.token.write_text(secrets.token_hex(32))
        self.token.chmod(0o600)
        self.address = f"127.0.0.1:{_free_port()}"
        self.metrics = _free_port()
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.processes: list[psutil.Process] = []
        common = ["--num-cpus", str(cpus), "--object-store-memory", "100000000", "--disable-usage-stats"]
        port = self.address.rpartition(":")[2]
        head = ["--head", "--port", port, "--include-dashboard", "false", "--metrics-export-port", str(self.metrics)]
        self._start(python, [*head, "--node-ip-address", "127.0.0.1", "--temp-dir", str(folder / "ray"), *common])
        for _ in range(nodes - 1):
            self._start(python, ["--address", self.address, *common])

    def _start(self, python: str, arguments: list[str]) -> None:
        before = set(psutil.pids())
        command = [python, "-m", "ray.scripts.scripts", "start", *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=120, cwd=self.folder
        )
        assert done.returncode == 0, done.stdout + done.stderr
        for pid in set(psutil.pids()) - before:
            try:
                process = psutil.Process(pid)
                if "ray" in " ".join(process.cmdline()) and process.ppid() in (1, os.getpid()):
                    self.processes.append(process)
            except psutil.Error:
                continue

    def close(self) -> None:
        family = [*self.processes]
        for process in self.processes:
            try:
                family += process.children(recursive=True)
            except psutil.Error:
                continue
        end(family)


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose path is short enough for the sockets that Ray keeps in it."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="rs"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(request: pytest.FixtureRequest, short: Path) -> Iterator[Head]:
    head = Head(short, getattr(request, "param", sys.executable), nodes=3)
    yield head
    head.close()


def _cluster_file(tmp_path: Path, head: Head, **fields: object) -> str:
    path = tmp_path / "cluster.yaml"
    settings = {"kind": "address", "address": head.address, "token_file": str(head.token), **fields}
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    return str(path)


def test_trials_run_on_three_nodes_and_survive_the_loss_of_one(
    cluster: Head, start: Start, study_file: Path, tmp_path: Path
) -> None:
    file = _cluster_file(tmp_path, cluster)
    launch = start("launch", str(study_file), "--cluster", file, "--trials", "8", "--set", "recipe.epochs=30")
    study = tmp_path / "runs" / "tiny"
    wait_for(lambda: len(list(study.glob("trials/*/trial.json"))) >= 3, 120)
    wait_for(lambda: "robustsearch_trials" in _scrape(cluster.metrics), 60)
    raylets = [process for process in cluster.processes if "raylet" in process.name()]
    assert len(raylets) == 3
    raylets[-1].kill()
    out, err = launch.communicate(timeout=280)
    assert launch.returncode == 0, out + err
    assert "8 trials, 3 at once" in err
    outcomes = [json.loads(path.read_text()) for path in sorted(study.glob("trials/*/outcome.json"))]
    assert [outcome["number"] for outcome in outcomes] == list(range(8))
    assert {outcome["state"] for outcome in outcomes} == {"complete"}


def _scrape(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def test_what_does_not_fit_is_said_in_one_line_before_anything_starts(
    cluster: Head, start: Start, study_file: Path, tmp_path: Path
) -> None:
    wrong_token = tmp_path / "wrong"
    wrong_token.write_text(secrets.token_hex(32))
    cases: list[tuple[dict[str, object], str]] = [
        ({"gpus_per_trial": 8}, "no node has what one trial asks for (1 CPU, 8 GPU)"),
        ({"cpus_per_trial": 2}, "no node has what one trial asks for (2 CPU)"),
        ({"concurrency": 4}, "concurrency 4 does not fit"),
        ({"token_file": str(wrong_token)}, "token"),
        ({"token_file": "nowhere"}, "token file nowhere does not exist"),
        ({"address": f"127.0.0.1:{_free_port()}"}, "no Ray cluster answers at"),
    ]
    for fields, message in cases:
        launch = start("launch", str(study_file), "--cluster", _cluster_file(tmp_path, cluster, **fields))
        _, err = launch.communicate(timeout=120)
        assert launch.returncode == 6, err
        assert message in err.strip().splitlines()[-1], err
        assert not list((tmp_path / "runs").glob("tiny/*")), "something was left behind"


@pytest.fixture
def bare_python(tmp_path: Path) -> str:
    """A Python that has everything this one has, but not the project."""
    site = sysconfig.get_paths()["purelib"]
    if (Path(site) / "trainables").exists():
        pytest.skip("the project is installed as a copy; only an editable install can be left out")
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    # Named in a .pth file, a folder is searched, but its own .pth files, the editable install's, are not read.
    next((tmp_path / "bare" / "lib").glob("python*/site-packages")).joinpath("dependencies.pth").write_text(site)
    return str(tmp_path / "bare" / "bin" / "python")


def test_code_is_shipped_to_workers_that_have_the_dependencies_only(
    bare_python: str, short: Path, start: Start, study_file: Path, tmp_path: Path
) -> None:
    missing = subprocess.run(
        [bare_python, "-c", "import torch, ray, trainables"], capture_output=True, text=True, cwd=tmp_path
    )
    assert "No module named 'trainables'" in missing.stderr
    head = Head(short, bare_python, nodes=1, cpus=2)
    try:
        refused = start("launch", str(study_file), "--cluster", _cluster_file(tmp_path, head), "--trials", "2")
        _, err = refused.communicate(timeout=120)
        assert refused.returncode == 6
        assert "code: ship" in err.strip().splitlines()[-1], err
        file = _cluster_file(tmp_path, head, code="ship")
        launch = start("launch", str(study_file), "--cluster", file, "--trials", "2")
        out, err = launch.communicate(timeout=200)
        assert launch.returncode == 0, out + err
        assert "2 of 2 trials complete" in err
    finally:
        head.close()
