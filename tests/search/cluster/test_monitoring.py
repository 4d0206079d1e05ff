"""What others watch a Ray with: the way into its dashboard, and the folder in which Prometheus finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.cluster import monitoring


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that `robustsearch monitoring` makes, in a home of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (*monitoring.VARIABLES, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    (monitoring.default_folder() / monitoring.TARGETS).mkdir(parents=True)
    return monitoring.default_folder()


def test_the_way_in_names_the_token_and_never_tells_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert monitoring.way_in() == ""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert f"`cat {folder.parents[1]}/.ray/auth_token`" in monitoring.way_in()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/a place/token")
    assert "`cat '/a place/token'`" in monitoring.way_in()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    assert "RAY_AUTH_TOKEN " in monitoring.way_in()
    assert "secret" not in monitoring.way_in()


def test_the_environment_is_that_of_the_file_where_the_process_says_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert monitoring.environment() == {}
    lines = ["export RAY_GRAFANA_HOST=http://127.0.0.1:3000", "export RAY_PROMETHEUS_HOST=http://127.0.0.1:9090"]
    (folder / monitoring.ENVIRONMENT).write_text("\n".join([*lines, "export PATH=/evil", "garbage"]))
    monkeypatch.setenv("RAY_PROMETHEUS_HOST", "http://other")
    assert monitoring.environment() == {"RAY_GRAFANA_HOST": "http://127.0.0.1:3000"}
    (folder / monitoring.ENVIRONMENT).write_bytes(b"\xff\xfe")
    assert monitoring.environment() == {}


def test_a_ray_is_listed_while_it_runs_and_those_that_were_killed_are_not(folder: Path, tmp_path: Path) -> None:
    session = tmp_path / "robustsearch-abc" / "r" / "session_latest"
    session.mkdir(parents=True)
    (session / monitoring.DISCOVERY).write_text("[]")
    targets = folder / monitoring.TARGETS
    (targets / "robustsearch-killed.json").symlink_to(tmp_path / "gone")
    (targets / "own.json").write_text("[]")
    with monitoring.listed(session):
        assert {path.name for path in targets.iterdir()} == {"own.json", "robustsearch-abc.json"}
        assert (targets / "robustsearch-abc.json").read_text() == "[]"
    assert [path.name for path in targets.iterdir()] == ["own.json"]


def test_without_the_folder_nothing_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with monitoring.listed(tmp_path / "x" / "r" / "session_latest"):
        assert list(tmp_path.iterdir()) == []
