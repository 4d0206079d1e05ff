"""What workers start with, alone and within a Ray job, as Ray itself puts the two together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search.cluster.runtime_env import JOB, own_workers, runtime_env
from trainables.worker import prestart

OWN = {"OMP_NUM_THREADS": "2", "PYTHONSAFEPATH": "1"}


def merged(job: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What Ray's workers get of a job's runtime environment and that of `ray.init` in it."""
    from ray.runtime_env.runtime_env import _merge_runtime_env

    found: Any = _merge_runtime_env(job, given, override=True)  # type: ignore[arg-type]
    return dict(found)


def test_alone_workers_start_in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB, raising=False)
    given = runtime_env(2, ("/code/mine.py",), tmp_path)
    assert given == {"working_dir": str(tmp_path / "empty"), "env_vars": OWN, "py_modules": ["/code/mine.py"]}
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({"working_dir": "gcs://job.zip"}, {"working_dir": "gcs://job.zip", "py_modules": ["/code/mine.py"]}),
        ({"py_modules": ["gcs://a.zip"]}, {"py_modules": ["gcs://a.zip", "/code/mine.py"]}),
        ({"pip": ["x"]}, {"pip": ["x"], "py_modules": ["/code/mine.py"]}),
        ({}, {"py_modules": ["/code/mine.py"]}),
    ],
)
def test_within_a_job_its_directory_and_modules_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: dict[str, Any], expected: dict[str, Any]
) -> None:
    job = {**job, "env_vars": {"THEIRS": "x", "OMP_NUM_THREADS": "64"}}
    monkeypatch.setenv(JOB, json.dumps({"runtime_env": job, "metadata": {}}))
    found = merged(job, runtime_env(2, ("/code/mine.py",), tmp_path))
    assert found == {"working_dir": str(tmp_path / "empty"), **expected, "env_vars": {"THEIRS": "x", **OWN}}


@pytest.mark.parametrize("config", ["", "{", "[]", '{"runtime_env": null}', '{"metadata": {}}'])
def test_a_job_without_a_runtime_environment_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    monkeypatch.setenv(JOB, config)
    assert runtime_env(2, (), tmp_path) == {"working_dir": str(tmp_path / "empty"), "env_vars": OWN}


def test_own_workers_get_by_their_environment_what_others_get_by_a_runtime_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(JOB, raising=False)
    folder, plugin, package = tmp_path / "launch", tmp_path / "mine.py", tmp_path / "whole"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    plugin.write_text("X = 1")
    folder.mkdir()
    given, variables = own_workers(2, (str(plugin), str(package)), folder)
    assert given.keys() == {"job_config"}
    assert given["job_config"]._runtime_env_has_working_dir(), "else Ray adds the current directory to workers' paths"
    assert variables == {
        prestart.FOLDER: str(folder),
        "OMP_NUM_THREADS": "2",
        "RAY_preload_python_modules": "trainables.worker.prestart",
        "RAY_idle_worker_killing_time_threshold_ms": "120000",
    }
    assert list((folder / prestart.EMPTY).iterdir()) == []
    plugin.write_text("X = 2")
    sent = folder / prestart.CODE
    assert (sent / "mine.py").read_text() == "X = 1", "what is edited during a launch does not reach its workers"
    assert [path.name for path in (sent / "whole").iterdir()] == ["__init__.py"]


def test_own_workers_within_a_job_have_its_runtime_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB, json.dumps({"runtime_env": {"pip": ["x"]}, "metadata": {}}))
    given, variables = own_workers(2, (), tmp_path)
    assert given == {"runtime_env": {"working_dir": str(tmp_path / "empty"), "env_vars": OWN}}
    assert not variables
