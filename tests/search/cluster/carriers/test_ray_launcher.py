"""Ray's launcher behind one module: its files, its refusals, and its commands in processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from search.cluster.base import ClusterError
from search.cluster.carriers import ray_launcher
from search.files.interrupts import Interrupted

LOCAL = """
cluster_name: two
provider: &provider {type: local, head_ip: n1, worker_ips: [n2]}
auth: {ssh_user: root}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "ray-cluster.yaml"
    path.write_text(LOCAL)
    return path


def test_a_file_is_read_as_ray_reads_it(config: Path) -> None:
    config.write_text(f"{LOCAL}again: {{<<: *provider, on: yes}}\n")
    found = ray_launcher.load(str(config))
    assert found["cluster_name"] == "two"
    assert found["again"] == {"type": "local", "head_ip": "n1", "worker_ips": ["n2"], True: True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: job\n", "is not a file for Ray's cluster launcher: it lacks `cluster_name`"),
        ("cluster_name: x\nprovider: aws\n", "is not a file for Ray's cluster launcher"),
        ("cluster_name: [\n", "is not YAML"),
        ("- 1\n", "is not a file for Ray's cluster launcher"),
    ],
)
def test_what_is_no_file_of_the_launcher_is_refused(config: Path, text: str, message: str) -> None:
    config.write_text(text)
    with pytest.raises(ClusterError, match=message):
        ray_launcher.load(str(config))


def test_a_file_that_is_missing_is_named() -> None:
    with pytest.raises(ClusterError, match=r"nowhere\.yaml: No such file"):
        ray_launcher.load("nowhere.yaml")


@pytest.mark.slow  # It imports Ray.
@pytest.mark.filterwarnings("ignore")
def test_ray_fills_in_its_defaults_and_its_refusals_are_passed_on(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ray_launcher.load(str(config))
    complete = ray_launcher.prepared(str(config), given)
    assert any("ray start --head" in command for command in complete["head_start_ray_commands"])
    assert "head_start_ray_commands" not in given
    with pytest.raises(ClusterError, match=rf"{config}: .*'wrong' was unexpected"):
        ray_launcher.prepared(str(config), {**given, "wrong": 1})
    with pytest.raises(ClusterError, match=r"head_ip.*worker_ips"):
        ray_launcher.prepared(str(config), {**given, "provider": {"type": "local"}})
    assert capsys.readouterr().out == ""


@pytest.fixture
def ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script that runs in place of `python -m ray.scripts.scripts`."""
    script = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(script))
    return script


def write(script: Path, body: str) -> None:
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)


def test_what_ray_up_prints_is_passed_on_line_by_line_without_colours(ray: Path, config: Path) -> None:
    write(ray, r"""echo "$@"; echo; printf '\033[1m two\033[0m\n\033[0m\n' >&2; echo "$RAY_USAGE_STATS_ENABLED" """)
    lines: list[str] = []
    ray_launcher.up(str(config), lines.append)
    assert lines == [f"ray up: -m ray.scripts.scripts up --yes {config}", "ray up:  two", "ray up: 0"]
    ray_launcher.down(str(config), lines.append)
    assert lines[-3] == f"ray down: -m ray.scripts.scripts down --yes {config}"


def test_machines_of_ones_own_have_the_autoscaler_that_brings_them_up(
    ray: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(ray, 'echo "v2: $RAY_UP_enable_autoscaler_v2"')
    monkeypatch.delenv("RAY_UP_enable_autoscaler_v2", raising=False)
    lines: list[str] = []
    ray_launcher.up(str(config), lines.append)
    config.write_text(LOCAL.replace("type: local", "type: aws"))
    ray_launcher.up(str(config), lines.append)
    monkeypatch.setenv("RAY_UP_enable_autoscaler_v2", "1")
    config.write_text(LOCAL)
    ray_launcher.up(str(config), lines.append)
    assert lines == ["ray up: v2: 0", "ray up: v2:", "ray up: v2: 1"]


def test_a_command_that_fails_is_said_with_its_last_line(ray: Path, config: Path) -> None:
    write(ray, "echo one; echo 'Failed to setup head node.'; exit 3")
    with pytest.raises(ClusterError, match=rf"`ray up {config}` ended with code 3: Failed to setup head node\."):
        ray_launcher.up(str(config), lambda line: None)


@pytest.mark.slow
def test_a_signal_ends_the_command_and_what_it_started(
    ray: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(ray, "sleep 60 & echo begun; wait")
    lines: list[str] = []
    monkeypatch.setattr(ray_launcher, "signalled", lambda: "ray up: begun" in lines)
    with pytest.raises(Interrupted):
        ray_launcher.up(str(config), lines.append)
    assert lines[-1] == f"`ray up` was interrupted; what runs of the cluster ends with `ray down {config}`"
