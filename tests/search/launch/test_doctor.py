"""Doctor on machines where something is amiss."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from search.cluster import auto
from search.launch import doctor
from search.launch.doctor import Finding, examine
from search.store import driver_lock
from tests.search.command import run
from tests.search.factories import make_study
from trainables.store import paths
from trainables.store.storage import Storage


@pytest.fixture(autouse=True)
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, a current directory and a storage of one's own, and no Ray; neither torch nor Ray is imported."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", "ROBUSTSEARCH_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "IMPORTED", ("click",))
    monkeypatch.setattr(auto, "running", set)
    return tmp_path


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


@pytest.mark.slow
def test_a_healthy_machine_has_no_failure(healthy: Path) -> None:
    findings = examine(None, "runs")
    assert [finding for finding in findings if finding.level == "fail"] == []
    found = by_subject(findings)
    assert found["digits"].level == "ok"
    assert "quickstart" in found["digits"].message
    assert found["storage"].message.startswith(f"{healthy / 'runs'}, 0 studies")
    assert not (healthy / "runs").exists()


@pytest.mark.slow
def test_missing_data_warn_and_name_the_studies_that_need_them() -> None:
    finding = by_subject(examine(None, "runs"))["svhn"]
    assert finding.level == "warn"
    assert "svhn-resnet18" in finding.message
    assert "\n" not in finding.message


@pytest.mark.slow
def test_a_package_that_cannot_be_imported_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "IMPORTED", ("no_such_package",))
    finding = by_subject(examine(None, "runs"))["no_such_package"]
    assert finding.level == "fail"
    result = run("doctor", "--json")
    assert result.exit_code == 6
    shown = json.loads(result.stdout)
    assert shown["error"]["exit_code"] == 6
    assert {"level": "fail", "subject": "no_such_package", "message": finding.message} in shown["findings"]


@pytest.mark.slow
def test_a_token_that_others_can_read_is_warned_of(healthy: Path) -> None:
    token = healthy / ".robustsearch" / "ray_token"
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o644)
    finding = by_subject(examine(None, "runs"))["token"]
    assert (finding.level, "644" in finding.message) == ("warn", True)
    token.chmod(0o600)
    assert by_subject(examine(None, "runs"))["token"].level == "ok"


@pytest.mark.slow
def test_a_cluster_without_a_token_fails_unless_it_is_accepted(healthy: Path) -> None:
    (healthy / "cluster.yaml").write_text("kind: address\n")
    assert by_subject(examine("cluster.yaml", "runs"))["token"].level == "fail"
    (healthy / "cluster.yaml").write_text("kind: address\nallow_no_token: true\n")
    assert by_subject(examine("cluster.yaml", "runs"))["token"].level == "warn"


@pytest.mark.slow
def test_a_wrong_cluster_file_fails_and_the_rest_is_still_checked(healthy: Path) -> None:
    (healthy / "cluster.yaml").write_text("kind: local\ncpus: many\n")
    result = run("doctor", "--cluster", "cluster.yaml", NO_COLOR="1")
    assert result.exit_code == 6
    lines = {line.split()[1]: line for line in result.stdout.splitlines()}
    assert lines["cluster"].startswith("fail")
    assert "cluster.yaml:2:1" in result.stdout
    assert lines["storage"].startswith("ok")


@pytest.mark.slow
@pytest.mark.parametrize("address", ["auto", "closed"])
def test_a_cluster_that_does_not_answer_fails_at_once(address: str, healthy: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"127.0.0.1:{server.getsockname()[1]}"
    if address == "auto":
        # What a cluster that was killed leaves behind.
        (healthy / "ray").mkdir()
        (healthy / "ray" / "ray_current_cluster").write_text(closed)
    (healthy / "cluster.yaml").write_text(f"kind: address\naddress: {closed if address == 'closed' else 'auto'}\n")
    finding = by_subject(examine("cluster.yaml", "runs"))["cluster"]
    assert finding.level == "fail"
    assert closed in finding.message


@pytest.mark.slow
def test_no_cluster_at_all_fails(healthy: Path) -> None:
    (healthy / "cluster.yaml").write_text("kind: address\n")
    finding = by_subject(examine("cluster.yaml", "runs"))["cluster"]
    assert (finding.level, "auto" in finding.message) == ("fail", True)


@pytest.mark.slow
def test_a_storage_that_is_a_file_fails(healthy: Path) -> None:
    (healthy / "runs").write_text("")
    assert by_subject(examine(None, "runs"))["storage"].level == "fail"


@pytest.mark.slow
def test_a_storage_that_the_nodes_cannot_see_fails(healthy: Path) -> None:
    (healthy / "cluster.yaml").write_text("kind: job\naddress: http://127.0.0.1:1\n")
    finding = by_subject(examine("cluster.yaml", None))["storage"]
    assert (finding.level, "write `storage: /shared/robustsearch`" in finding.message) == ("fail", True)


@pytest.mark.slow
def test_a_nearly_full_disk_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        total: int = 100
        used: int = 90
        free: int = 10

    def usage(path: Any) -> Usage:
        return Usage()

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert by_subject(examine(None, "runs"))["storage"].level == "warn"


@pytest.mark.slow
def test_damaged_records_and_drivers_are_listed(healthy: Path) -> None:
    make_study(healthy / "runs" / "hurt", 3)
    (healthy / "runs" / "hurt" / paths.outcome(1)).write_text("{}")
    (healthy / "runs" / "lost").mkdir()
    (healthy / "runs" / "lost" / paths.STUDY).write_text("name: [")
    make_study(healthy / "runs" / "busy", 2)
    with driver_lock.acquire(Storage("runs/busy")):
        found = by_subject(examine(None, "runs"))
    assert found["hurt"].level == "warn"
    assert paths.outcome(1) in found["hurt"].message
    assert found["lost"].level == "warn"
    assert found["busy"].message.startswith("driven by process")


@pytest.mark.slow
def test_what_other_users_can_change_is_named(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert by_subject(examine(None, "runs"))["other users"].level == "ok"
    for name in ("here", "images"):
        (healthy / name).mkdir()
        (healthy / name).chmod(0o777)
    monkeypatch.chdir(healthy / "here")
    monkeypatch.setenv("ROBUSTSEARCH_CACHE", str(healthy / "images"))
    found = by_subject(examine(None, "runs"))
    assert (found["current folder"].level, found["decoded images"].level) == ("warn", "warn")
    assert found["current folder"].message.startswith(f"{healthy / 'here'} can be written by all users (mode 777)")
    assert "other users" not in found
    assert found["temporary files"].level == "ok"
