"""This machine: Ray starts with the launch and stops with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from search.cluster.connection import OBJECT_STORE_BYTES, RayCluster, own_processes_alive
from search.cluster.tokens import local_token, token_file, token_finding, use_local_token
from search.files.findings import Finding

MOST_PRESTARTED = 16
"""Workers that start before there are trials: each takes 200 MB, and a study may have fewer trials than cores."""


class Local(RayCluster):
    """Start Ray on this machine for the length of the launch."""

    kind: Literal["local"] = "local"
    cpus: int | None = Field(
        default=None, gt=0, description="Cores that the trials may use together; null takes all of the machine."
    )
    gpus: int | None = Field(
        default=None, ge=0, description="GPUs that the trials may use together; null takes all of the machine."
    )
    dashboard_port: int | None = Field(
        default=None, gt=0, lt=65536, description="Port of the Ray dashboard on 127.0.0.1; null takes a free one."
    )
    metrics_port: int | None = Field(
        default=None, gt=0, lt=65536, description="Port of the metrics on 127.0.0.1; null takes a free one."
    )
    this_machine: ClassVar[bool] = True
    starts_ray: ClassVar[bool] = True

    def where(self) -> str:
        return "Ray on this machine"

    def opening(self) -> str:
        return "starting Ray on this machine ..."

    def authenticate(self) -> None:
        os.environ["RAY_AUTH_MODE"] = "token"
        use_local_token()

    def addressing(self) -> dict[str, Any]:
        return {
            "address": "local",
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "include_dashboard": True,
            "dashboard_host": "127.0.0.1",
            "dashboard_port": self.dashboard_port,
            "_metrics_export_port": self.metrics_port,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }

    def prestarted(self) -> int:
        fit = (self.cpus or os.cpu_count() or 1) // self.cpus_per_trial
        if self.gpus_per_trial and self.gpus is not None:
            fit = min(fit, int(self.gpus / self.gpus_per_trial))
        return min(fit, self.concurrency or fit, MOST_PRESTARTED)

    def liveness(self, addressing: dict[str, Any]) -> Callable[[], bool]:
        return own_processes_alive()

    def refusal(self, reason: str) -> str:
        return f"Ray does not start on this machine: {reason}"

    def examine(self) -> Iterator[Finding]:
        path = token_file(local_token())
        if path == local_token():
            missing = Finding("ok", "token", f"{path} will be made at the first launch")
        else:
            missing = Finding("fail", "token", f"{path} does not exist; RAY_AUTH_TOKEN_PATH names it")
        yield token_finding(path, missing)

    def sends(self, module: str, path: Path) -> bool:
        return True
