"""An sshd on each machine, whose key opens all of them, for root and without questions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.infra.machines import Command, Machine, Machines, poll

TOOLS = ("sshd", "ssh", "ssh-keygen", "rsync")

SERVER = """
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
MaxStartups 100
Subsystem sftp internal-sftp
"""
CLIENT = """
IdentityFile {folder}/key
UserKnownHostsFile /dev/null
StrictHostKeyChecking no
LogLevel ERROR
"""


class Ssh:
    """The daemons. `key` is the private key that opens root's account; `ssh n2` needs no more words on a machine."""

    user = "root"

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.folder = machines.folder / "ssh"
        self.folder.mkdir()
        self.key = self.folder / "key"
        for path in (self.key, self.folder / "host"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
            subprocess.run(make, check=True, timeout=60)
        (self.folder / "sshd_config").write_text(SERVER.format(folder=self.folder))
        (self.folder / "ssh_config").write_text(CLIENT.format(folder=self.folder))
        self._daemons: list[Command] = [self.serve(machine) for machine in machines]
        head = next(iter(machines))
        for machine in machines:
            poll(lambda name=machine.name: head.run(["ssh", name, "true"], check=False).returncode == 0, "sshd")

    def serve(self, machine: Machine) -> Command:
        """Start the daemon of a machine, one that was lost too."""
        home = machine.folder / "home"
        home.mkdir(exist_ok=True)
        python = Path(sys.base_prefix)
        if python.is_relative_to(Path.home()):  # It stays where it is.
            there = home / python.relative_to(Path.home())
            there.mkdir(parents=True, exist_ok=True)
            machine.run(["mount", "--bind", python, there])
        machine.run(
            f"mkdir -p /run/sshd && mount --rbind {home} {Path.home()} && install -d -m 700 {Path.home()}/.ssh"
            f" && install -m 600 {self.folder}/ssh_config {Path.home()}/.ssh/config"
        )
        words = ["/usr/sbin/sshd", "-D", "-e", "-f", self.folder / "sshd_config"]
        with open(self.folder / f"sshd-{machine.name}.out", "a") as out:
            return machine.start(words, stdout=out, stderr=out)
