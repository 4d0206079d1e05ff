"""What the workers of a launch start with: a directory, environment variables, and code that is sent to them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The environment variable in which Ray hands a submitted job its configuration."""
MERGE = "RAY_OVERRIDE_JOB_RUNTIME_ENV"
"""Set to 1, Ray puts the runtime environment of `ray.init` over that of the job, where it would refuse both."""


def runtime_env(cpus: int, code_paths: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Return the runtime environment of a launch that computes on `cpus` threads and sends `code_paths`.

    Within a Ray job it completes that of the job (see `MERGE`): the job's directory and its modules stay.
    """
    # Without a working directory of their own, workers would import from the one the launch was typed in.
    empty = folder / "empty"
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


def of_job() -> dict[str, Any]:
    """Return the runtime environment of the Ray job that this process is of; empty outside of one."""
    try:
        found = json.loads(os.environ.get(JOB, "{}")).get("runtime_env")
    except (ValueError, AttributeError):  # Ray will refuse it, and say so.
        return {}
    return found if isinstance(found, dict) else {}
