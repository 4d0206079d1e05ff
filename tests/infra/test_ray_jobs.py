"""Clusters of kind `ray-up` and `job` for real: Ray's launcher over ssh, a dashboard with a token, jobs that end.

One machine is the head, the other one its worker, and the laptop from which the cluster is started. Ray is started once
for all tests, which stand in order.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.infra.machines import Command, Machine, poll
from tests.infra.ray_machines import ALIVE, PROGRAM, epochs, write_plugin
from tests.infra.ssh import Ssh
from tests.search.tiny import TINY, conclusion, outcomes, states

pytestmark = [pytest.mark.infra, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
LAUNCHER = """
cluster_name: two
provider: {{type: local, head_ip: n1, worker_ips: [n2]}}
auth: {{ssh_user: root, ssh_private_key: {key}}}
file_mounts: {{"~/.ray/auth_token": {token}}}
setup_commands:
  - echo 'export PATH={bin}:$PATH' > ~/.bashrc
head_start_ray_commands:
  - export PYTHONPATH={root} {mark}={folder} RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0;
    RAY_AUTH_MODE=token ray start --head --port=6379 --num-cpus=2 --object-store-memory=100000000
    --autoscaling-config=~/ray_bootstrap_config.yaml
worker_start_ray_commands:
  - export PYTHONPATH={root} {mark}={folder} RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0;
    RAY_AUTH_MODE=token ray start --address=$RAY_HEAD_IP:6379 --num-cpus=1 --object-store-memory=100000000
"""
SLOW = TINY.replace("name: tiny", "name: slow").replace("trials: 4", "trials: 400") + "plugins: [counted_epochs]\n"
MARK = "ROBUSTSEARCH_TEST"
"""Names the folder of the tests in the environment of what is started on the head."""
ENDING = 300
"""Seconds in which a job ends that was asked to."""


class Cluster:
    """The files of the cluster, and commands on its head and on the laptop."""

    def __init__(self, ssh: Ssh, folder: Path) -> None:
        self.head, self.laptop = ssh.machines["n1"], ssh.machines["n2"]
        self.folder = folder
        self.storage = folder / "runs"
        self.token = folder / "token"
        self.token.write_text(secrets.token_hex(32))
        self.token.chmod(0o600)
        self.config = folder / "ray-cluster.yaml"
        fields = {"key": ssh.key, "token": self.token, "mark": MARK, "folder": folder}
        self.config.write_text(LAUNCHER.format(bin=PROGRAM.parent, root=ROOT, **fields))
        self.log = write_plugin(folder)
        self.write("tiny.yaml", TINY)

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return name

    def cluster_file(self, kind: str, **fields: object) -> str:
        fields = {"kind": kind, "token_file": str(self.token), "storage": str(self.storage), **fields}
        return self.write(f"{kind}.yaml", "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items()))

    def start(self, machine: Machine, *words: str) -> Command:
        environment = {"NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
        return machine.start([PROGRAM, *words], cwd=self.folder, env=environment)

    def run(self, machine: Machine, *words: str, exits: int = 0, seconds: float = 240) -> str:
        """Run a command to its end and return what it printed on stderr."""
        command = self.start(machine, *words)
        out, err = command.communicate(timeout=seconds)
        assert command.returncode == exits, out + err
        return err

    def trained_more(self, launch: Command) -> None:
        """Wait until a trial more has ended in a job, and the next one trains."""
        study, count = self.storage / "slow", len(outcomes(self.storage / "slow"))
        poll(lambda: len(outcomes(study)) > count or launch.poll() not in (None, 0), "a trial more", 600)
        trained = sum(epochs(self.log).values())
        poll(lambda: sum(epochs(self.log).values()) > trained or launch.poll() not in (None, 0), "epochs", 600)

    def driver(self) -> psutil.Process:
        """Return the process that drives a study in a job."""
        found = None
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.name() != "bash" and "inner.yaml" in process.cmdline():
                    found = process
        assert found is not None
        return found


@pytest.fixture(scope="module")
def cluster(ssh_machines: Ssh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(ssh_machines, tmp_path_factory.mktemp("jobs"))
    yield made
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(made.folder):
                process.kill()


def test_a_file_that_opens_the_dashboard_starts_nothing(cluster: Cluster) -> None:
    unsafe = cluster.config.read_text().replace("ray start --head", "ray start --head --dashboard-host=0.0.0.0")
    named = cluster.cluster_file("ray-up", config=cluster.write("unsafe.yaml", unsafe))
    said = cluster.run(cluster.laptop, "launch", "tiny.yaml", "--cluster", named, exits=6)
    assert "unsafe.yaml:10 head_start_ray_commands: --dashboard-host=0.0.0.0 opens the dashboard" in conclusion(said)
    assert not (cluster.storage / "tiny").exists()


def test_a_cluster_is_started_over_ssh_and_runs_the_study(cluster: Cluster) -> None:
    named = cluster.cluster_file("ray-up", config=str(cluster.config))
    said = cluster.run(cluster.laptop, "launch", "tiny.yaml", "--cluster", named, seconds=380)
    assert "starting the cluster two with `ray up" in said
    assert "submitted as job robustsearch-tiny-1 (ray-up)" in said
    assert "the cluster stays up; `ray down" in said
    assert states(cluster.storage / "tiny") == {"complete": 4}
    job = json.loads((cluster.storage / "tiny" / "carrier" / "job.json").read_bytes())
    assert (job["id"], job["cluster"]["config"]) == ("robustsearch-tiny-1", str(cluster.config))
    listening = cluster.head.run("ss -ltn 'sport = :8265'").stdout
    assert "127.0.0.1:8265" in listening
    assert "0.0.0.0:8265" not in listening


def test_the_other_machine_joins(cluster: Cluster) -> None:
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(cluster.token)}
    words = [sys.executable, "-c", ALIVE, f"{cluster.head.address}:6379"]
    addresses = {cluster.head.address, cluster.laptop.address}
    poll(lambda: set(cluster.head.run(words, env=environment).stdout.split()) == addresses, "the worker", 120)


def test_a_wrong_token_is_said_in_one_line_and_nothing_is_submitted(cluster: Cluster) -> None:
    wrong = cluster.write("wrong", secrets.token_hex(32))
    for token, message in ((wrong, "does not accept the token"), ("nowhere", "nowhere cannot be read")):
        named = cluster.cluster_file("job", token_file=token)
        said = cluster.run(cluster.head, "launch", "tiny.yaml", "--cluster", named, "--name", "none", exits=6)
        assert message in conclusion(said)
    assert not (cluster.storage / "none" / "study.yaml").exists()


def test_doctor_says_what_the_cluster_is(cluster: Cluster) -> None:
    named = cluster.cluster_file("job")
    command = cluster.start(cluster.head, "doctor", "--cluster", named)
    out, err = command.communicate(timeout=120)
    assert "http://127.0.0.1:8265 answers, and accepts the token" in out + err


def test_a_second_launch_follows_the_job_of_the_first_and_stop_ends_both(cluster: Cluster) -> None:
    words = ("launch", cluster.write("slow.yaml", SLOW), "--cluster", cluster.cluster_file("job"))
    first = cluster.start(cluster.head, *words)
    poll(lambda: bool(epochs(cluster.log)) or first.poll() is not None, "the plug-in of the study in the job", 200)
    second = cluster.start(cluster.head, *words)
    status = cluster.start(cluster.head, "status", "slow")
    out, err = status.communicate(timeout=120)
    assert "job robustsearch-slow-1 (job): running" in out + err
    cluster.run(cluster.head, "stop", "slow")
    for launch in (first, second):
        out, err = launch.communicate(timeout=ENDING)
        assert launch.returncode == 130, out + err
        assert "robustsearch-slow-1" in err
        assert "robustsearch-slow-2" not in err


def test_a_killed_driver_ends_the_job_and_the_next_one_resumes_its_study(cluster: Cluster) -> None:
    words = ("launch", cluster.write("slow.yaml", SLOW), "--cluster", cluster.cluster_file("job"))
    launch = cluster.start(cluster.head, *words)
    cluster.trained_more(launch)
    before = outcomes(cluster.storage / "slow")
    cluster.driver().kill()
    out, err = launch.communicate(timeout=ENDING)
    assert launch.returncode == 6, out + err
    assert "robustsearch-slow-2" in err
    launch = cluster.start(cluster.head, *words, "--detach")
    cluster.trained_more(launch)
    out, err = launch.communicate(timeout=ENDING)
    assert launch.returncode == 0, out + err
    assert "robustsearch-slow-3" in out + err
    said = cluster.run(cluster.head, "stop", "slow", "--now", seconds=ENDING)
    assert "waiting up to 60 s" in said
    after = outcomes(cluster.storage / "slow")
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before) > 0


def test_the_exit_code_is_that_of_the_launch_in_the_job_and_the_cluster_goes_down(cluster: Cluster) -> None:
    named = cluster.cluster_file("ray-up", config=str(cluster.config), down="when-idle")
    study = cluster.write(
        "never.yaml", TINY.replace("name: tiny", "name: never") + "constraints: {clean_accuracy: '>= 1'}\n"
    )
    said = cluster.run(cluster.laptop, "launch", study, "--trials", "1", "--cluster", named, exits=3, seconds=300)
    assert "taking the cluster down" in said
    assert "Ray still runs" not in said
    poll(lambda: not cluster.head.run("ss -ltnH 'sport = :8265'").stdout, "the end of the dashboard", 60)
