"""The machines and services that other tests stand on are what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.infra.machines import NETWORK, Machines, poll
from tests.infra.services import Prometheus
from tests.infra.slurm import Slurm
from tests.infra.ssh import Ssh

pytestmark = [pytest.mark.infra, pytest.mark.timeout(180)]


def test_machines_have_their_own_name_processes_and_temporary_files(machines: Machines, tmp_path: Path) -> None:
    first, second = machines["n1"], machines["n2"]
    assert [machine.run("hostname").stdout for machine in machines] == ["n1\n", "n2\n"]
    assert len(first.run("ps -e --no-headers").stdout.splitlines()) < 10
    mine = f"mine-{os.getpid()}"
    first.run(f"touch /tmp/{mine} /dev/shm/{mine} /run/{mine}")
    assert second.run(f"ls /tmp/{mine} /dev/shm/{mine} /run/{mine}", check=False).stdout == ""
    assert not Path(f"/tmp/{mine}").exists()
    (tmp_path / "seen").write_text("by all")
    (machines.shared / "seen").write_text("by all")
    for path in (tmp_path / "seen", machines.shared / "seen"):
        assert second.run(["cat", path]).stdout == "by all"


def test_machines_reach_each_other_and_nothing_else(machines: Machines) -> None:
    serve = [sys.executable, "-m", "http.server", "8000", "--directory", str(machines.shared)]
    ask = [sys.executable, "-c", "import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)"]
    server = machines["n2"].start(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    reach = lambda url: machines["n1"].run([*ask, url], check=False).returncode == 0  # noqa: E731
    poll(lambda: reach("http://n2:8000"), "the server on n2")
    assert machines["n1"].run("ip route").stdout.split()[:1] == [f"{NETWORK}.0/24"]
    machines["n2"].unplug()
    assert not reach("http://n2:8000")
    machines["n2"].plug()
    poll(lambda: reach("http://n2:8000"), "n2 after it was plugged in again")
    server.terminate()
    assert server.wait(30) == -15


def test_a_lost_machine_takes_its_processes_along_and_can_be_booted_again(machines: Machines) -> None:
    sleeper = machines["n2"].start(["sleep", "1000"])
    machines["n2"].kill()
    assert sleeper.wait(30) != 0
    machines.boot(machines["n2"])
    assert machines["n2"].run("hostname").stdout == "n2\n"


@pytest.mark.usefixtures("machines")
def test_nothing_is_left_of_machines_whose_process_is_killed() -> None:
    code = (
        "import os, sys; from tests.infra.machines import Machines\n"
        "machines = Machines(1); print(machines.folder, flush=True)\n"
        "machines['n1'].start(['sleep', '98765']); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    folder = Path(done.stdout.strip())
    assert done.returncode == -9
    poll(lambda: str(folder) not in subprocess.run(["ps", "axww"], capture_output=True, text=True).stdout, "the end")
    assert "98765" not in subprocess.run(["ps", "axww"], capture_output=True, text=True).stdout
    assert str(folder) not in Path("/proc/mounts").read_text()
    Machines(1).close()
    assert not folder.exists()


def test_slurm_runs_a_job_on_both_machines_and_requeues_it(slurm: Slurm) -> None:
    words = "sbatch --parsable --nodes 2 --ntasks-per-node 1 --gpus-per-node a100:1 --requeue --wrap"
    script = f"srun hostname > {slurm.machines.shared}/$SLURM_RESTART_COUNT; sleep ${{SLURM_RESTART_COUNT:-1000}}"
    job = slurm.head.run([*words.split(), script]).stdout.strip()
    slurm.wait_state(job, "RUNNING")
    slurm.head.run(["scontrol", "requeue", job])
    slurm.wait_state(job, "COMPLETED")
    assert sorted((slurm.machines.shared / "1").read_text().split()) == ["n1", "n2"]


def test_ssh_enters_a_machine_and_copies_files(ssh_machines: Ssh) -> None:
    first = ssh_machines.machines["n1"]
    assert first.run(["ssh", "n2", "hostname"]).stdout == "n2\n"
    first.run("echo copied > /tmp/here && rsync /tmp/here n2:/tmp/there")
    assert ssh_machines.machines["n2"].run("cat /tmp/there").stdout == "copied\n"


def test_prometheus_scrapes_itself(
    prometheus: Callable[[Path], AbstractContextManager[Prometheus]], tmp_path: Path
) -> None:
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text("global: {scrape_interval: 1s}\nscrape_configs: []\n")
    with prometheus(configuration) as server:
        assert server.query("vector(3)")[0]["value"][1] == "3"
