"""Clusters that run already: three real nodes, tokens, and workers that have not the project."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import sysconfig
import urllib.request
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.nodes import Nodes, cluster_file, free_port
from tests.integration.waiting import wait_for

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def cluster(request: pytest.FixtureRequest, short_folder: Path) -> Iterator[Nodes]:
    head = Nodes(short_folder, getattr(request, "param", sys.executable), nodes=3)
    yield head
    head.close()


def test_trials_run_on_three_nodes_and_survive_the_loss_of_one(
    cluster: Nodes, start: Start, study_file: Path, tmp_path: Path
) -> None:
    file = cluster_file(tmp_path, cluster)
    launch = start("launch", str(study_file), "--cluster", file, "--trials", "8", "--set", "recipe.epochs=30")
    study = tmp_path / "runs" / "tiny"
    wait_for(lambda: len(list(study.glob("trials/*/trial.json"))) >= 3, 120)
    wait_for(lambda: "robustsearch_trials" in _scrape(cluster.metrics), 60)
    assert len(cluster.raylets()) == 3
    cluster.raylets()[-1].kill()
    out, err = launch.communicate(timeout=280)
    assert launch.returncode == 0, out + err
    assert "8 trials, 3 at once" in err
    outcomes = [json.loads(path.read_text()) for path in sorted(study.glob("trials/*/outcome.json"))]
    assert [outcome["number"] for outcome in outcomes] == list(range(8))
    assert {outcome["state"] for outcome in outcomes} == {"complete"}


def test_a_launch_whose_head_node_dies_says_so(cluster: Nodes, start: Start, study_file: Path, tmp_path: Path) -> None:
    file = cluster_file(tmp_path, cluster)
    launch = start("launch", str(study_file), "--cluster", file, "--trials", "500")
    study = tmp_path / "runs" / "tiny"
    wait_for(lambda: len(list(study.glob("trials/*/outcome.json"))) >= 1, 120)
    (head,) = [process for process in cluster.processes if process.is_running() and process.name() == "gcs_server"]
    head.kill()
    out, err = launch.communicate(timeout=120)
    assert launch.returncode == 6, out + err
    assert "the Ray cluster has died" in err
    states = {json.loads(path.read_text())["state"] for path in study.glob("trials/*/outcome.json")}
    assert states == {"complete"}
    assert not (study / "driver.json").exists()


def _scrape(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def test_what_does_not_fit_is_said_in_one_line_before_anything_starts(
    cluster: Nodes, start: Start, study_file: Path, tmp_path: Path
) -> None:
    wrong_token = tmp_path / "wrong"
    wrong_token.write_text(secrets.token_hex(32))
    cases: list[tuple[dict[str, object], str]] = [
        ({"gpus_per_trial": 8}, "no node has what one trial asks for (1 CPU, 8 GPU)"),
        ({"cpus_per_trial": 2}, "no node has what one trial asks for (2 CPU)"),
        ({"concurrency": 4}, "concurrency 4 does not fit"),
        ({"token_file": str(wrong_token)}, "token"),
        ({"token_file": "nowhere"}, "token file nowhere does not exist"),
        ({"address": f"127.0.0.1:{free_port()}"}, "no Ray cluster answers at"),
    ]
    for fields, message in cases:
        launch = start("launch", str(study_file), "--cluster", cluster_file(tmp_path, cluster, **fields))
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
    bare_python: str, short_folder: Path, start: Start, study_file: Path, tmp_path: Path
) -> None:
    missing = subprocess.run(
        [bare_python, "-c", "import torch, ray, trainables"], capture_output=True, text=True, cwd=tmp_path
    )
    assert "No module named 'trainables'" in missing.stderr
    head = Nodes(short_folder, bare_python, nodes=1, cpus=2)
    try:
        refused = start("launch", str(study_file), "--cluster", cluster_file(tmp_path, head), "--trials", "2")
        _, err = refused.communicate(timeout=120)
        assert refused.returncode == 6
        assert "code: ship" in err.strip().splitlines()[-1], err
        file = cluster_file(tmp_path, head, code="ship")
        launch = start("launch", str(study_file), "--cluster", file, "--trials", "2")
        out, err = launch.communicate(timeout=200)
        assert launch.returncode == 0, out + err
        assert "2 of 2 trials complete" in err
    finally:
        head.close()
