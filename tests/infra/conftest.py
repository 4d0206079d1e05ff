"""What tests of infrastructure run against. Fixtures are made on demand. Machines are those of one file's tests: what
one file leaves running on them is in no other's way, and they boot within a second.

Where a tool is missing, or the tests are not root's, a test skips and says why; with ROBUSTSEARCH_INFRA=1 it fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.infra import services, slurm, ssh
from tests.infra.machines import UNSHARE, Machines

# Ray's workers have the priority of all else here: at Ray's own, 15, they starve where others use the machine too.
os.environ.setdefault("RAY_worker_niceness", "0")


def require(*tools: str, root: bool = False) -> None:
    """Skip, or fail where everything has to be there, unless the programs are found."""
    missing = [tool for tool in tools if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    missing = [tool for tool in missing if not Path(services.tool(tool)).exists()]
    reasons = [f"{', '.join(missing)} not installed (make infra-tools)"] if missing else []
    if root and not missing and subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode != 0:
        reasons.append("only root may make namespaces")
    if not reasons:
        return
    reason = " and ".join(reasons)
    if os.environ.get("ROBUSTSEARCH_INFRA") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Two machines, n1 and n2. They see this checkout, this Python, `machines.shared` and all folders `tmp_path`."""
    require("ip", "nsenter", "unshare", root=True)
    made = Machines(2, visible=[tmp_path_factory.getbasetemp()])
    yield made
    made.close()


@pytest.fixture(scope="module")
def slurm_cluster(machines: Machines) -> slurm.Slurm:
    require(*slurm.TOOLS)
    return slurm.Slurm(machines)


@pytest.fixture(name="slurm")
def _slurm(slurm_cluster: slurm.Slurm) -> Iterator[slurm.Slurm]:
    """Slurm on the two machines; afterwards, lost machines are there again and no job is left."""
    yield slurm_cluster
    for machine in slurm_cluster.machines:
        if not machine.up:
            slurm_cluster.restart(machine)
    slurm_cluster.cancel_all()


@pytest.fixture(scope="module")
def ssh_machines(machines: Machines) -> ssh.Ssh:
    """An sshd on each of the two machines."""
    require(*ssh.TOOLS)
    return ssh.Ssh(machines)


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.ObjectStore]:
    """A real S3 server with conditional writes."""
    require("weed", "setpriv")
    with services.seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as store:
        yield store


@pytest.fixture
def prometheus(tmp_path: Path) -> Callable[[Path], AbstractContextManager[services.Prometheus]]:
    """Run Prometheus with a configuration file: `with prometheus(path) as server`."""
    require("prometheus", "setpriv")
    folder = tmp_path / "prometheus"
    folder.mkdir()
    return partial(services.prometheus, folder)
