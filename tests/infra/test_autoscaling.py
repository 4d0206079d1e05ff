"""A study on a cluster that grows from nothing and shrinks again, with Ray's own autoscaler and its simulated nodes."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kill_loop import STUDY
from tests.infra.machines import Command, Machine, Machines, poll
from tests.infra.ray_machines import PORT, PROGRAM, RAY, write_plugin
from tests.search.tiny import conclusion, states

pytestmark = [pytest.mark.infra, pytest.mark.timeout(900)]

HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
HEAD_TYPE = "ray.head.default"
"""By these the provider of simulated nodes knows the head."""
MOST = 3
"""Trials at once, on one node: simulated nodes share a folder, in which each unpacks anew what others' workers use."""

COUNT = """
import sys, time
from ray import _raylet
client = _raylet.GcsClient(address=sys.argv[1])
while True:
    alive = [node for node in client.get_all_node_info(timeout=10).values() if node.state == 0]
    print(len(alive) - 1, file=open(sys.argv[2], "a"), flush=True)
    time.sleep(0.5)
"""


class Growing:
    """A head without cores, and an autoscaler that may start a node of three."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine, self.folder = machine, folder
        (folder / "token").write_text(secrets.token_hex(32))
        (folder / "token").chmod(0o600)
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(folder),
            "NO_COLOR": "1",
        }
        (folder / "autoscaling.json").write_text(json.dumps(_autoscaling()))
        own = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "1", "RAY_FAKE_CLUSTER": "1"}
        own |= {"RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID}
        start = ["start", "--head", "--port", str(PORT), "--num-cpus", "0", "--include-dashboard", "false"]
        start += ["--object-store-memory", "80000000", "--autoscaling-config", str(folder / "autoscaling.json")]
        machine.run([*RAY, *start], cwd=folder, env={**self.environment, **own}, timeout=240)
        self._log = folder / "nodes.log"
        address = f"{machine.address}:{PORT}"
        self._counter = machine.start([sys.executable, "-c", COUNT, address, self._log], env=self.environment)

    def workers(self) -> list[int]:
        """How many nodes beside the head there were, twice a second."""
        return [int(line) for line in self._log.read_text().split()] if self._log.exists() else []

    def launch(self, **fields: object) -> Command:
        study, cluster = self.folder / "killed.yaml", self.folder / "cluster.yaml"
        study.write_text(STUDY % {"trials": 6, "epochs": 20})
        fields = {"kind": "address", "max_concurrency": MOST, "storage": str(self.folder / "runs"), **fields}
        cluster.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items()))
        line = [PROGRAM, "launch", study, "--cluster", cluster]
        return self.machine.start(line, cwd=self.folder, env=self.environment)

    def close(self) -> None:
        self._counter.send_signal(15)
        self.machine.run([*RAY, "stop", "--force"], cwd=self.folder, env=self.environment, check=False)


def _autoscaling() -> dict[str, object]:
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "launch_multiple": True,
        "head_node_id": HEAD_ID,
    }
    worker = {"CPU": MOST, "object_store_memory": 80_000_000}
    return {
        "cluster_name": "growing",
        "max_workers": 1,
        "idle_timeout_minutes": 0.1,
        "provider": provider,
        "auth": {},
        **{key: [] for key in ("initialization_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter")},
        **{key: [] for key in ("setup_commands", "head_setup_commands", "worker_setup_commands")},
        **{key: [] for key in ("head_start_ray_commands", "worker_start_ray_commands")},
        "file_mounts": {},
        "head_node_type": HEAD_TYPE,
        "available_node_types": {
            HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {"resources": worker, "node_config": {}, "min_workers": 0, "max_workers": 1},
        },
    }


@pytest.fixture
def growing(machines: Machines, tmp_path: Path) -> Iterator[Growing]:
    machine = machines["n1"]
    if not machine.up:
        machines.boot(machine)
    made = Growing(machine, tmp_path)
    yield made
    made.close()


def test_a_cluster_grows_with_the_trials_and_shrinks_when_they_are_done(growing: Growing, tmp_path: Path) -> None:
    write_plugin(tmp_path, pause=0.2)
    vain = growing.launch(gpus_per_trial=1)
    _, err = vain.communicate(timeout=120)
    assert vain.returncode == 6, err
    assert "no type of node that the autoscaler starts has what one trial asks for (1 CPU, 1 GPU)" in conclusion(err)
    assert set(growing.workers()) == {0}
    launch = growing.launch()
    out, err = launch.communicate(timeout=600)
    assert launch.returncode == 0, out + err
    assert "waiting up to 600 s: no node has what one trial asks for (1 CPU)" in err
    assert f"killed: 6 trials, {MOST} at once" in err
    assert f"room for {MOST} on the nodes" in err
    assert states(tmp_path / "runs" / "killed") == {"complete": 6}
    assert max(growing.workers()) == 1
    poll(lambda: growing.workers()[-1] == 0, "the node was not asked for any more, and leaves", 120)
