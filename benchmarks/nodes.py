"""A Ray cluster of several nodes on this machine, in processes that a test may kill."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

TRIES, TOO_SLOW = 3, "timed out during startup"
"""How often a node is started that Ray gives up because it takes longer than 30 s, and how Ray says it."""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Nodes:
    """A Ray head node in processes of its own, with a token, and as many more nodes as asked for."""

    def __init__(self, folder: Path, python: str = sys.executable, nodes: int = 3, cpus: int = 1) -> None:
        self.folder = folder
        self.token = folder / "token"
        self.token.write_text(secrets.token_hex(32))
        self.token.chmod(0o600)
        self.address = f"127.0.0.1:{free_port()}"
        self.metrics = free_port()
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_metrics_report_interval_ms": "1000",
        }
        self.processes: list[psutil.Process] = []
        self._python = python
        self._common = ["--object-store-memory", "100000000", "--disable-usage-stats", "--num-cpus"]
        self._cpus = cpus
        port = self.address.rpartition(":")[2]
        head = ["--head", "--port", port, "--include-dashboard", "false", "--metrics-export-port", str(self.metrics)]
        self._start(
            [*head, "--node-ip-address", "127.0.0.1", "--temp-dir", str(folder / "ray"), *self._common, str(cpus)]
        )
        for _ in range(nodes - 1):
            self.add()

    def add(self, *before: str, cpus: int | None = None) -> None:
        """Let another node join; `before` is a command that runs it, such as `unshare`."""
        count = str(self._cpus if cpus is None else cpus)
        self._start(["--address", self.address, *self._common, count], *before)

    def _start(self, arguments: list[str], *before: str) -> None:
        known = set(psutil.pids())
        command = [*before, self._python, "-m", "ray.scripts.scripts", "start", *arguments]
        for _ in range(TRIES):
            done = subprocess.run(
                command, env=self.environment, capture_output=True, text=True, timeout=240, cwd=self.folder
            )
            if done.returncode == 0 or TOO_SLOW not in done.stderr:
                break
        assert done.returncode == 0, done.stdout + done.stderr
        for pid in set(psutil.pids()) - known:
            try:
                process = psutil.Process(pid)
                # All processes of a node are given its folder or the address; whoever else started one is spared.
                given = " ".join(process.cmdline())
                ours = str(self.folder) in given or self.address in given
                if ours and process.ppid() in (1, os.getpid()):
                    self.processes.append(process)
            except psutil.Error:
                continue

    def raylets(self) -> list[psutil.Process]:
        """The living raylets, the head's first."""
        return [process for process in self.processes if process.is_running() and "raylet" in process.name()]

    def workers(self, study: str) -> list[psutil.Process]:
        """The processes that run trials of a study."""
        found = []
        for raylet in self.raylets():
            try:
                family = raylet.children()
            except psutil.Error:
                continue
            found += [process for process in family if title(process).startswith(f"ray::{study}-")]
        return found

    def close(self) -> None:
        family = [*self.processes]
        for process in self.processes:
            try:
                family += process.children(recursive=True)
            except psutil.Error:
                continue
        end(family)


def end(processes: Iterable[psutil.Process]) -> None:
    """End processes that this session started, and only those: psutil knows a reused id by its start time."""
    for process in processes:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def title(process: psutil.Process) -> str:
    """Return the name that a process gave itself, empty where it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def cluster_file(folder: Path, nodes: Nodes, /, **fields: object) -> str:
    """Write the cluster file that leads to the nodes."""
    path = folder / "cluster.yaml"
    settings = {"kind": "address", "address": nodes.address, "token_file": str(nodes.token), **fields}
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    return str(path)
