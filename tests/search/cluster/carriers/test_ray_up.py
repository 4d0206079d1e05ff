"""The kind `ray-up`: what it refuses of a launcher's file, when it starts a cluster, and when it takes one down."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.cluster.base import ClusterError
from search.cluster.carriers import job as jobs
from search.cluster.carriers import ray_launcher, ray_up
from search.cluster.carriers.base import State, Submission
from search.cluster.carriers.ray_launcher import Head
from search.cluster.carriers.ray_up import RayUp, RayUpCarrier, safety
from search.cluster.spec import resolve
from tests.search.cluster.carriers.dashboard import Dashboard, dashboard

SAFE = """
cluster_name: two
provider: {type: local, head_ip: n1, worker_ips: [n2]}
auth: {ssh_user: root}
file_mounts: {"~/.ray/auth_token": "~/token"}
head_start_ray_commands:
  - ray stop
  - RAY_AUTH_MODE=token ray start --head --autoscaling-config=~/ray_bootstrap_config.yaml
worker_start_ray_commands:
  - RAY_AUTH_MODE=token ray start --address=$RAY_HEAD_IP:6379
"""
DEFAULTS = {
    "provider": {"type": "aws"},
    "head_start_ray_commands": [
        "ulimit -n 65536; ray start --head --autoscaling-config=~/ray_bootstrap_config.yaml --dashboard-host=0.0.0.0"
    ],
    "worker_start_ray_commands": ["ray start --address=$RAY_HEAD_IP:6379"],
}
SUBMISSION = Submission("tiny", "name: tiny\n", "s3://bucket/runs")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "ray-cluster.yaml"
    path.write_text(SAFE)
    return path


def found(config: Path, token_file: str | None = None) -> list[str]:
    given = ray_launcher.load(str(config))
    return [
        f"{finding.level} {finding.message}"
        for finding in safety(str(config), given, {**DEFAULTS, **given}, token_file)
    ]


def test_commands_with_a_token_and_a_dashboard_on_the_loopback_are_safe(config: Path) -> None:
    assert found(config) == []
    config.write_text(SAFE.replace("--head ", "--head --dashboard-host=127.0.0.1 "))
    assert found(config) == []


@pytest.mark.parametrize("option", ["--dashboard-host=0.0.0.0", "--dashboard-host 0.0.0.0", "--dashboard-host='::'"])
def test_a_dashboard_for_everybody_is_refused_with_its_line(config: Path, option: str) -> None:
    config.write_text(SAFE.replace("--head ", f"--head {option} "))
    (message,) = found(config)
    assert message.startswith(f"fail {config}:8 head_start_ray_commands: {option} opens the dashboard")


def test_ray_without_a_token_is_refused_with_its_line(config: Path) -> None:
    config.write_text(SAFE.replace("- RAY_AUTH_MODE=token ray start --address", "- ray start --address"))
    (message,) = found(config)
    assert message == (
        f"fail {config}:10 worker_start_ray_commands: Ray starts without authentication; "
        "write `RAY_AUTH_MODE=token ray start ...`"
    )


def test_commands_that_are_not_there_are_rays_own_and_refused_with_what_to_write(config: Path) -> None:
    config.write_text(SAFE.partition("head_start")[0])
    head, workers = found(config)
    assert head.startswith(f"fail {config} has no head_start_ray_commands: Ray's own for the provider local")
    assert head.endswith(
        "head_start_ray_commands:\n    - ulimit -n 65536; RAY_AUTH_MODE=token ray start --head "
        "--autoscaling-config=~/ray_bootstrap_config.yaml"
    )
    assert "worker_start_ray_commands:\n    - RAY_AUTH_MODE=token ray start" in workers


def test_a_head_that_starts_nothing_and_a_missing_token_are_said(config: Path) -> None:
    config.write_text(SAFE.replace("ray start --head", "true"))
    assert f"fail {config}: no command of head_start_ray_commands starts Ray: `ray start --head`" in found(config)
    config.write_text(SAFE.replace(" --autoscaling-config=~/ray_bootstrap_config.yaml", ""))
    assert [message.split(":")[0] for message in found(config)] == [f"warn {config}"]
    config.write_text(SAFE.replace("file_mounts", "ignored"))
    (message,) = found(config, "~/token")
    assert message.startswith(f"warn {config} brings no token to the machines")
    assert '`file_mounts: {"~/.ray/auth_token": "~/token"}`' in message
    config.write_text(SAFE.replace("~/.ray/auth_token", "/opt/secret"))
    assert found(config, "~/token") == []


ROOT = Path(__file__).parents[4]


@pytest.mark.slow  # It imports Ray.
@pytest.mark.filterwarnings("ignore")
def test_the_example_for_aws_passes_rays_checks_and_ours_and_installs_what_the_project_needs() -> None:
    path = str(ROOT / "clusters" / "ray-cluster.yaml")
    given = ray_launcher.load(path)
    complete = ray_launcher.prepared(path, given)
    assert list(safety(path, given, complete, "~/.secrets/ray-token")) == []
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (install,) = given["setup_commands"]
    assert shlex.split(install)[2:] == [name for name in needed if not name.startswith("ray")]


class Cloud:
    """What stands in for Ray's launcher, and for ssh: a head that is there once it was started."""

    def __init__(self, address: str) -> None:
        self.port = int(address.rpartition(":")[2])
        self.open = True
        self.exists = False
        self.commands: list[str] = []

    def head(self, path: str) -> Head | None:
        return Head("10.0.0.5", "ubuntu") if self.exists else None

    def up(self, path: str, say: Any) -> None:
        self.exists = True
        self.commands.append("up")

    def down(self, path: str, say: Any) -> None:
        self.exists = False
        self.commands.append("down")


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    for module in (jobs, ray_up):
        monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(jobs, "GRACE_SECONDS", 0.01)
    with dashboard() as board:
        yield board


@pytest.fixture
def cloud(board: Dashboard, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    cloud = Cloud(board.address)
    for name in ("head", "up", "down"):
        monkeypatch.setattr(ray_launcher, name, getattr(cloud, name))
    monkeypatch.setattr(ray_launcher, "prepared", lambda path, config: {**DEFAULTS, **config})
    monkeypatch.setattr(ray_up, "Tunnel", lambda head, port: cloud)
    return cloud


def carrier(config: Path, **fields: Any) -> RayUpCarrier:
    made = RayUp(config=str(config), **fields).carrier(SUBMISSION)
    assert isinstance(made, RayUpCarrier)
    return made


def test_a_cluster_is_started_once_and_left_alone_while_it_runs(config: Path, cloud: Cloud) -> None:
    assert carrier(config).submit() == "robustsearch-tiny-1"
    assert carrier(config).submit() == "robustsearch-tiny-1"
    assert cloud.commands == ["up"]
    first = carrier(config)
    assert first.state("robustsearch-tiny-1").phase == "starting"
    assert list(first.log("robustsearch-tiny-1")) == ["one", "two"]


def test_machines_without_ray_get_it_started_again(
    config: Path, cloud: Cloud, board: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.exists = True
    mode = ("GET", "/api/authentication_mode")
    board.answers[mode] = (502, "Bad gateway", {})

    def up(path: str, say: Any) -> None:
        cloud.commands.append("up")
        del board.answers[mode]

    monkeypatch.setattr(ray_launcher, "up", up)
    lost = carrier(config).state("robustsearch-tiny-1")
    assert lost == State("lost", f"Ray no longer runs on the head of the cluster of {config}")
    assert carrier(config).submit() == "robustsearch-tiny-1"
    assert cloud.commands == ["up"]


def test_an_unsafe_file_is_refused_before_a_machine_is_rented(config: Path, cloud: Cloud) -> None:
    config.write_text(SAFE.replace("--head ", "--head --dashboard-host=0.0.0.0 "))
    with pytest.raises(ClusterError, match="opens the dashboard"):
        carrier(config).submit()
    assert cloud.commands == []
    levels = [finding.level for finding in carrier(config).checks()]
    assert "fail" in levels


def test_doctor_starts_nothing(config: Path, cloud: Cloud) -> None:
    assert [finding.message for finding in carrier(config).checks()] == [
        f"{config}: the cluster two",
        "it is not up; a launch starts it",
    ]
    assert cloud.commands == []
    cloud.exists = True
    assert [(finding.level, finding.subject) for finding in carrier(config).checks()] == [
        ("ok", subject) for subject in ("ray up", "token", "cluster", "Ray", "Python")
    ]
    config.unlink()
    (missing,) = carrier(config).checks()
    assert missing.message == f"{config}: No such file or directory"


@pytest.mark.parametrize(
    ("down", "others", "commands"),
    [
        ("never", False, []),
        ("after", True, ["down"]),
        ("when-idle", False, ["down"]),
        ("when-idle", True, []),
    ],
)
def test_a_cluster_is_taken_down_as_its_file_says(
    config: Path, cloud: Cloud, board: Dashboard, down: str, others: bool, commands: list[str]
) -> None:
    following = carrier(config, down=down)
    job = following.submit()
    board.jobs[job]["status"] = "SUCCEEDED"
    if others:
        board.jobs["02000000"] = {"job_id": "02000000", "status": "RUNNING", "type": "DRIVER"}
    following.ended(job)
    assert cloud.commands == ["up", *commands]


def test_a_cluster_that_cannot_be_taken_down_is_said_and_no_error(
    config: Path, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    following = carrier(config, down="after")
    job = following.submit()

    def down(path: str, say: Any) -> None:
        raise ClusterError("no rights")

    monkeypatch.setattr(ray_launcher, "down", down)
    following.ended(job)
    assert f"the cluster is not taken down: no rights; `ray down {config}`" in capsys.readouterr().err


def test_a_ray_that_survives_ray_down_is_said(
    config: Path, cloud: Cloud, board: Dashboard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    following = carrier(config, down="after")
    following.ended(following.submit())
    assert "Ray still runs on the machines" in capsys.readouterr().err
    following = carrier(config, down="after")
    job = following.submit()

    def down(path: str, say: Any) -> None:
        board.answers["GET", "/api/authentication_mode"] = (502, "Bad gateway", {})

    monkeypatch.setattr(ray_launcher, "down", down)
    following.ended(job)
    assert "Ray still runs" not in capsys.readouterr().err


def test_a_cancelled_job_is_ended_and_then_the_cluster(config: Path, cloud: Cloud, board: Dashboard) -> None:
    following = carrier(config, down="after")
    job = following.submit()
    following.cancel(job)
    assert board.jobs[job]["status"] == "STOPPED"
    assert cloud.commands == ["up", "down"]
    assert carrier(config).state(job) == State("lost", f"the cluster of {config} is down")
    carrier(config).cancel(job)
    assert list(carrier(config).log(job)) == []


def test_a_tunnel_that_broke_is_opened_again(config: Path, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def tunnel(head: Head, port: int) -> Cloud:
        opened.append(head.address)
        return cloud

    monkeypatch.setattr(ray_up, "Tunnel", tunnel)
    following = carrier(config)
    job = following.submit()
    following.state(job)
    assert len(opened) == 1
    cloud.open = False
    following.state(job)
    assert len(opened) == 2


def test_its_fields_are_recorded_as_they_are_found_from_every_folder(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    recorded = RayUp(config=config.name, token_file="token").recorded()
    assert (recorded["config"], recorded["token_file"]) == (str(config), str(config.parent / "token"))
    assert isinstance(resolve(recorded), RayUp)
    files = RayUp(config=config.name).carrier(SUBMISSION).files()
    assert files["up.sh"] == f"#!/bin/sh\nexec ray up --yes {config}\n"
    assert {"study.yaml", "inner.yaml", "submit.sh"} < set(files)
