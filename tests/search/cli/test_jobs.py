"""The commands of launches that run as jobs: submitted, rendered, shown, stopped, checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search.cluster.carriers.base import State
from search.files.findings import Finding
from search.launch import carry
from tests.search.command import run
from tests.search.factories import make_study
from tests.search.pretend import Pretend, pretend
from tests.search.tiny import TINY

__all__ = ["pretend"]


@pytest.fixture
def files(tmp_path: Path, pretend: type[Pretend], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(carry, "LOOK_EVERY", 0.01)
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "cluster.yaml").write_text(f"kind: pretend\nstorage: {tmp_path / 'runs'}\n")
    return tmp_path


def launch(files: Path, *words: str, **options: Any) -> Any:
    return run("launch", files / "tiny.yaml", "--cluster", files / "cluster.yaml", *words, **options)


def stored(files: Path, command: str, *words: str) -> Any:
    return run(command, "tiny", "--storage", files / "runs", *words)


def test_a_detached_launch_prints_the_id_and_two_commands_that_work(files: Path) -> None:
    done = launch(files, "--detach")
    assert (done.exit_code, done.stdout) == (0, "p1\n")
    next_ = done.stderr.partition("next:\n")[2].split("\n")
    assert [line.split()[1] for line in next_ if line] == ["status", "stop"]
    status = run(*next_[0].split()[1:])
    assert "job     job p1 (pretend): queued in queue day, 00:00" in status.stdout
    assert "cancelled job p1" in run(*next_[1].split()[1:]).stderr
    assert "ended with exit code 143 cancelled" in stored(files, "status").stdout


def test_programs_read_the_same(files: Path, pretend: type[Pretend]) -> None:
    done = json.loads(launch(files, "--detach", "--json").stdout)
    assert done["study"] == "tiny"
    assert done["job"]["id"] == "p1"
    assert len(done["next"]) == 2
    status = json.loads(stored(files, "status", "--json").stdout)
    assert status["job"]["state"] == {"phase": "queued", "reason": "in queue day", "code": None}
    stopped = json.loads(stored(files, "stop", "--json").stdout)
    assert (stopped["job"], stopped["driver"]) == ("p1", None)


def test_a_followed_launch_has_the_code_of_the_job(files: Path, pretend: type[Pretend]) -> None:
    pretend.states[:] = [State("ended", code=6)]
    done = launch(files)
    assert done.exit_code == 6
    assert "submitting to nowhere ..." in done.stderr
    assert "job p1 ended with exit code 6, before there was a study" in done.stderr


def test_rendering_submits_nothing(files: Path, pretend: type[Pretend]) -> None:
    done = launch(files, "--render", str(files / "out"))
    assert done.exit_code == 0
    assert done.stdout == f"{files / 'out' / 'job.txt'}\n"
    assert (files / "out" / "job.txt").read_text() == "robustsearch-tiny \n"
    assert "nothing was submitted" in done.stderr
    assert not pretend.submitted
    assert not (files / "runs").exists()


@pytest.mark.parametrize("words", [("--detach",), ("--render", "out")])
@pytest.mark.parametrize("kind", ["inline", "local"])
def test_options_of_jobs_are_refused_where_the_launch_is_none(
    tmp_path: Path, kind: str, words: tuple[str, ...]
) -> None:
    done = run("launch", "quickstart", "--cluster", kind, "--storage", tmp_path, *words)
    assert done.exit_code == 2
    assert f"{words[0]} is for clusters that run a launch as a job" in done.stderr


def test_a_wrong_study_is_not_submitted(files: Path, pretend: type[Pretend]) -> None:
    done = launch(files, "--set", "recipe.epochs=-1")
    assert done.exit_code == 2
    assert "recipe.epochs" in done.stderr
    assert not pretend.submitted


def test_a_storage_is_required(files: Path, pretend: type[Pretend]) -> None:
    (files / "cluster.yaml").write_text("kind: pretend\n")
    done = launch(files)
    assert done.exit_code == 2
    assert "write `storage: /shared/robustsearch` in the cluster file, or give --storage" in done.stderr


def test_doctor_asks_the_cluster(pretend: type[Pretend], monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(pretend().examine()) == [Finding("ok", "pretend", "answers")]
    monkeypatch.setattr(pretend, "refusal", "the queue is closed")
    assert list(pretend().examine()) == [Finding("fail", "pretend", "the queue is closed")]


def test_a_study_that_ran_here_has_no_job(tmp_path: Path) -> None:
    assert run("stop", "nothing", "--storage", tmp_path).exit_code == 2
    make_study(tmp_path / "synthetic", 2)
    assert json.loads(run("status", "synthetic", "--storage", tmp_path, "--json").stdout)["job"] is None
    refused = run("stop", "synthetic", "--storage", tmp_path, "--now")
    assert refused.exit_code == 2
    assert "synthetic has no job to end now" in refused.stderr
