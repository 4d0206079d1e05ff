"""Ray on machines, started as the manual says, and a study whose epochs tell where they were trained."""

from __future__ import annotations

import json
import secrets
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.kill_loop import PLUGIN
from tests.infra.machines import Command, Machine, Machines

PROGRAM = Path(sys.executable).parent / "robustsearch"
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
PORT = 6379

ALIVE = """
import sys
from ray._raylet import GcsClient
for node in GcsClient(address=sys.argv[1]).get_all_node_info().values():
    if node.state == 0:  # ALIVE
        print(node.node_manager_address)
"""


class RayMachines:
    """A Ray cluster with its head on n1 and a node on each other machine, of one core each."""

    def __init__(self, machines: Machines, folder: Path, cpus: int = 1) -> None:
        self.machines = machines
        self.folder = folder
        self.token = folder / "token"
        self.token.write_text(secrets.token_hex(32))
        self.token.chmod(0o600)
        self._cpus = cpus
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_USAGE_STATS_ENABLED": "0",
            # By default 20 and 30, which a busy machine exceeds.
            "RAY_gcs_server_port_wait_time_s": "200",
            "RAY_raylet_start_wait_time_s": "200",
            "PYTHONPATH": f"{Path(__file__).parents[2]}:{folder}",
        }
        self.head = machines["n1"]
        self.start()

    def start(self) -> None:
        """Start Ray on all machines, with the head on n1."""
        self.start_head(self.machines["n1"])
        for machine in self.machines:
            if machine is not self.head:
                self.join(machine)

    def start_head(self, machine: Machine) -> None:
        self.head = machine
        self._ray(machine, "--head", "--port", str(PORT), "--include-dashboard", "false")

    def join(self, machine: Machine) -> None:
        self._ray(machine, "--address", f"{self.head.address}:{PORT}")

    def _ray(self, machine: Machine, *words: str) -> None:
        common = ["--num-cpus", str(self._cpus), "--object-store-memory", "100000000", "--disable-usage-stats"]
        machine.run([*RAY, "start", *words, *common], cwd=self.folder, env=self.environment, timeout=240)

    def alive(self) -> set[str]:
        """Return the names of the machines whose nodes the head counts as alive."""
        done = self.head.run([sys.executable, "-c", ALIVE, f"{self.head.address}:{PORT}"], env=self.environment)
        return {machine.name for machine in self.machines if machine.address in done.stdout.split()}

    def stop(self) -> None:
        """End what was given this cluster's token, which are Ray's processes and launches."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("RAY_AUTH_TOKEN_PATH") == str(self.token):
                    process.kill()

    def launch(self, machine: Machine, study: Path, storage: Path, *words: str, **options: Any) -> Command:
        """Start a launch on a machine, with the cluster file that leads to this cluster."""
        cluster = self.folder / f"{machine.name}.yaml"
        address = f"{self.head.address}:{PORT}"
        fields = {"kind": "address", "address": address, "token_file": str(self.token), "storage": str(storage)}
        cluster.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items()))
        line: Sequence[str | Path] = [PROGRAM, "launch", study, "--cluster", cluster, *words]
        return machine.start(line, cwd=self.folder, env={**self.environment, "NO_COLOR": "1"}, **options)


def write_plugin(folder: Path, pause: float = 0.05) -> Path:
    """Write the plug-in `counted_epochs`, which appends a line an epoch to the log that is returned."""
    log = folder / "epochs.log"
    text = PLUGIN % {"log": str(log), "pause": pause}
    text = text.replace("import sys\n", "import socket\nimport sys\n", 1)
    text = text.replace('{epoch.epoch}")', '{epoch.epoch} {socket.gethostname()}")')
    (folder / "counted_epochs.py").write_text(text)
    return log


def epochs(log: Path) -> Counter[tuple[str, str]]:
    """Count how often each epoch of each training was trained, by its key and number."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return Counter((line[1], line[2]) for line in lines if line[0] == "epoch")


def hosts(log: Path) -> Counter[str]:
    """Count the epochs that each machine trained."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return Counter(line[3] for line in lines if line[0] == "epoch")
