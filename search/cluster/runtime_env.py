"""What the workers of a launch start with: a directory, environment variables, and code that is sent to them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.worker import prestart
from trainables.worker.prestart import CODE, EMPTY, FOLDER

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The environment variable in which Ray hands a submitted job its configuration."""
MERGE = "RAY_OVERRIDE_JOB_RUNTIME_ENV"
"""Set to 1, Ray puts the runtime environment of `ray.init` over that of the job, where it would refuse both."""

IDLE = "RAY_idle_worker_killing_time_threshold_ms"
"""After how long Ray ends a worker without a task when the cores are given away: a second by default."""
IDLE_SECONDS = 120
"""As the cores of a trial are given away before its worker is chosen, those that had started for trials were ended."""

LEFT_OUT = shutil.ignore_patterns("__pycache__", ".git", ".venv")
"""What is not copied of a package."""


def runtime_env(cpus: int, code_paths: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Return the runtime environment of a launch that computes on `cpus` threads and sends `code_paths`.

    Within a Ray job it completes that of the job (see `MERGE`): the job's directory and its modules stay.
    """
    # Without a working directory of their own, workers would import from the one the launch was typed in.
    empty = folder / EMPTY
    empty.mkdir()
    given = {
        "working_dir": str(empty),
        "env_vars": {"OMP_NUM_THREADS": str(cpus), "PYTHONSAFEPATH": "1"},
        **({"py_modules": list(code_paths)} if code_paths else {}),
    }
    job = of_job()
    if "working_dir" in job:
        del given["working_dir"]
    if code_paths and (modules := job.get("py_modules")):
        given["py_modules"] = [*modules, *code_paths]
    return given


def own_workers(cpus: int, code_paths: tuple[str, ...], folder: Path) -> tuple[dict[str, Any], Mapping[str, str]]:
    """Return arguments of `ray.init` and environment variables that do the same where a launch starts Ray itself.

    Its workers then need no runtime environment, for which Ray starts each of them a second time and not before its
    first task: `trainables.worker.prestart` does what one would do. Within a Ray job, they get that of the job.
    """
    if of_job():
        return {"runtime_env": runtime_env(cpus, code_paths, folder)}, {}
    from ray.job_config import JobConfig

    class OwnPath(JobConfig):
        """A job whose workers import nothing from the directory that the launch was typed in."""

        def _runtime_env_has_working_dir(self) -> bool:
            return True

    (folder / EMPTY).mkdir()
    (folder / CODE).mkdir()
    for path in map(Path, code_paths):
        if path.is_dir():
            shutil.copytree(path, folder / CODE / path.name, ignore=LEFT_OUT, ignore_dangling_symlinks=True)
        else:
            shutil.copy(path, folder / CODE)
    variables = {
        FOLDER: str(folder),
        "OMP_NUM_THREADS": str(cpus),
        "RAY_preload_python_modules": prestart.__name__,
        IDLE: str(1000 * IDLE_SECONDS),
    }
    return {"job_config": OwnPath()}, variables


def of_job() -> dict[str, Any]:
    """Return the runtime environment of the Ray job that this process is of; empty outside of one."""
    try:
        found = json.loads(os.environ.get(JOB, "{}")).get("runtime_env")
    except (ValueError, AttributeError):  # Ray will refuse it, and say so.
        return {}
    return found if isinstance(found, dict) else {}
