"""A study on Kubernetes by commands, against a stand-in for the API server; the launch of the head runs here."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from search.cluster.carriers.kubernetes import Kubernetes
from search.files.yaml import dump_yaml
from search.launch import carry
from tests.search.cluster.carriers.kubernetes.examples import SMALL
from tests.search.cluster.carriers.kubernetes.server import TOKEN, Server
from tests.search.command import run
from tests.search.tiny import TINY


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What follows `launch`: a study, and a cluster whose pods see this machine's storage as a volume."""
    (tmp_path / "runs").mkdir()
    volumes = [{"claim": "shared", "mount_path": str(tmp_path / "runs")}]
    cluster = {**SMALL, "volumes": volumes, "storage": str(tmp_path / "runs")}
    (tmp_path / "kubernetes.yaml").write_text(dump_yaml(cluster))
    (tmp_path / "tiny.yaml").write_text(TINY.replace("trials: 4", "trials: 1"))
    monkeypatch.setattr(carry, "STATE_EVERY", 0.1)
    monkeypatch.setattr(carry, "LOOK_EVERY", 0.1)
    return [str(tmp_path / "tiny.yaml"), "--cluster", str(tmp_path / "kubernetes.yaml")]


def _head(server: Server, folder: Path) -> Any:
    """Run the study of the ConfigMap where the head would."""
    config_map = next(found for (kind, *_), found in server.objects.items() if kind == "configmaps")
    (folder / "study.yaml").write_text(config_map["data"]["study.yaml"])
    return run("launch", folder / "study.yaml", "--cluster", "inline", "--storage", folder / "runs")


def test_rendering_needs_no_cluster(words: list[str], server: Server, tmp_path: Path) -> None:
    done = run("launch", *words, "--render", tmp_path / "made")
    assert done.exit_code == 0, done.stderr
    (file,) = (tmp_path / "made").iterdir()
    assert done.stdout.strip() == str(file)
    assert "kind: RayJob" in file.read_text()
    assert not server.asked


@pytest.mark.slow
def test_a_detached_study_is_followed_and_ended_by_commands(words: list[str], server: Server, tmp_path: Path) -> None:
    storage = ("--storage", tmp_path / "runs")
    done = run("launch", *words, "--detach")
    assert done.exit_code == 0, done.stderr
    name = server.job()["metadata"]["name"]
    assert done.stdout.strip() == name
    recorded = tmp_path / "runs/tiny/carrier/job.json"
    assert json.loads(recorded.read_text())["id"] == name
    assert TOKEN not in recorded.read_text()

    server.status("Initializing")
    server.pod("head", containerStatuses=[{"image": "r:1", "state": {"waiting": {"reason": "ErrImagePull"}}}])
    again = run("launch", *words, "--detach")
    assert "already runs this study" in again.stderr
    assert server.made == 2
    shown = run("status", "tiny", *storage)
    assert (
        f"job {name} (kubernetes): starting the image r:1 of the head cannot be pulled" in shown.stdout + shown.stderr
    )

    ran = _head(server, tmp_path)
    assert ran.exit_code == 0, ran.stderr
    server.status("Running", jobStatus="RUNNING")
    shown = run("status", "tiny", "--json", *storage)
    assert '"phase": "running"' in shown.stdout
    stopped = run("stop", "tiny", "--now", *storage)
    assert stopped.exit_code == 0
    assert f"cancelled job {name}" in stopped.stderr
    server.looks_until_gone = 0
    assert "lost there is no RayJob" in (shown := run("status", "tiny", *storage)).stdout + shown.stderr
    assert not server.objects


@pytest.mark.slow
def test_a_followed_study_ends_as_its_records_say(words: list[str], server: Server, tmp_path: Path) -> None:
    def operator() -> None:
        while not server.objects or len(server.objects) < 2:
            time.sleep(0.05)
        server.status("Running", jobStatus="RUNNING")
        time.sleep(0.5)
        server.status("Complete", jobStatus="SUCCEEDED")

    assert run("launch", *words, "--detach").exit_code == 0
    assert _head(server, tmp_path).exit_code == 0
    server.status("Complete", jobStatus="SUCCEEDED")
    playing = threading.Thread(target=operator)
    first = server.job()["metadata"]["uid"]
    server.objects.clear()
    playing.start()
    done = run("launch", *words)
    playing.join()
    assert done.exit_code == 0, done.stderr
    assert server.job()["metadata"]["uid"] != first
    assert "running" in done.stderr
    assert "ended: of 1 trials" in done.stderr


def test_a_refused_submission_leaves_exit_code_6_and_no_job(words: list[str], server: Server, tmp_path: Path) -> None:
    server.release = "1.4"
    done = run("launch", *words)
    assert done.exit_code == 6
    assert "KubeRay is too old here" in done.stderr
    assert not (tmp_path / "runs/tiny/carrier/job.json").exists()


def test_a_storage_that_pods_do_not_see_is_refused_before_anything(words: list[str], server: Server) -> None:
    done = run("launch", *words, "--storage", "elsewhere")
    assert done.exit_code == 2
    assert "is a directory that the pods do not have" in done.stderr
    assert not server.asked


def test_doctor_examines_the_cluster(server: Server) -> None:
    found = Kubernetes.model_validate({**SMALL, "storage": "s3://bucket"}).examine()
    assert [(finding.subject, finding.level) for finding in found] == [
        *(("kubernetes", "ok"), ("kuberay", "ok"), ("rights", "ok"), ("dry run", "ok"))
    ]
