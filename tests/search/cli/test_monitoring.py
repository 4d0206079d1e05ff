"""The command that writes the settings of Prometheus and Grafana, and says how to start them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.search import command


def test_it_writes_to_the_home_and_says_the_two_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    done = command.run("monitoring", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    made = tmp_path / ".robustsearch" / "monitoring"
    assert said["directory"] == str(made)
    assert {Path(path) for path in said["written"]} == {path for path in made.rglob("*") if path.is_file()}
    assert made.stat().st_mode & 0o077 == 0
    told = command.run("monitoring")
    assert told.stdout.split() == said["written"]
    assert all(line in told.stderr for line in said["commands"])
    assert f". {made}/ray.env" in told.stderr
    assert "are not shown" not in told.stderr
    elsewhere = command.run("monitoring", str(tmp_path / "elsewhere")).stderr
    assert f"launches that start Ray themselves are not shown: they look only in {made}" in elsewhere


def test_a_session_is_scraped_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray" / "session_latest").mkdir(parents=True)
    for words, session in (((), tmp_path / "ray" / "session_latest"), (("--session", "mine"), Path("mine").absolute())):
        command.run("monitoring", "--json", str(tmp_path / "made"), *words)
        settings = (tmp_path / "made" / "prometheus.yml").read_text()
        assert f"- {session}/prom_metrics_service_discovery.json\n" in settings


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words in (["--grafana-port", "9090"], [str(tmp_path)], ["--prometheus-port", "0"]):
        done = command.run("monitoring", *words)
        assert done.exit_code == 2, done.output
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1, done.stderr
