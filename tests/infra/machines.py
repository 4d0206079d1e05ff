"""Machines that stand on this one: namespaces with a network, a host name, processes, /tmp and /run of their own.

Nothing has a name outside: a machine is the tree of processes under its first one, and network, mounts and processes
end with that. It ends where its standard input does, so it does not outlive the process that made it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

NETWORK = "10.201.0"
"""The network of the machines, which only they see: every group of machines has its own."""

PREFIX = "rsm"
"""Of the machines' folders, with the id of the process that made them; short, for the sockets that are put there."""

UNSHARE = ["unshare", "--net", "--mount", "--fork", "--kill-child"]
MACHINE = [*UNSHARE, "--uts", "--ipc", "--pid", "--mount-proc"]

# Bash collects the processes that lose their parents, as a first process must.
WAIT = "echo up; read _"

# The machine's own /tmp, and in it, where it was, what lies under /tmp and is to be seen all the same.
BOOT = """
set -e
name=$1; hosts=$2; tmp=$3; shift 3
hostname "$name"
mount --bind "$hosts" /etc/hosts
for place in "$@"; do
    case "$place" in /tmp/*) mkdir -p "$tmp${place#/tmp}"; mount --bind "$place" "$tmp${place#/tmp}";; esac
done
mount --rbind "$tmp" /tmp
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
"""


def first_process(words: list[str], log: Path) -> tuple[subprocess.Popen[str], int]:
    """Start namespaces; return what holds them, and the id of the first process in them, once it says that it is up."""
    with open(log, "w") as err:
        holder = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, text=True, start_new_session=True
        )
    assert holder.stdout is not None
    if holder.stdout.readline() != "up\n":
        holder.communicate(timeout=30)
        raise AssertionError(f"no namespaces: {log.read_text()}")
    return holder, psutil.Process(holder.pid).children()[0].pid


class Command(subprocess.Popen[str]):
    """A command on a machine. A signal goes to it, not to the process that entered the machine."""

    def send_signal(self, sig: int) -> None:
        for inside in psutil.Process(self.pid).children() if self.poll() is None else []:
            inside.send_signal(sig)


class Machine:
    """One machine. `name` is its host name, `address` its IP address, and `folder` is on the disk that all share."""

    def __init__(self, name: str, address: str, folder: Path, visible: Sequence[Path]) -> None:
        self.name = name
        self.address = address
        self.folder = folder
        self.ssh_port = 22
        self._visible = visible
        self._first: subprocess.Popen[str] | None = None
        self._pid = 0
        self._commands: list[Command] = []

    @property
    def up(self) -> bool:
        return self._first is not None and self._first.poll() is None

    def boot(self, hosts: Path) -> int:
        """Start the machine, still without a network; return the id of its first process."""
        temporary = self.folder / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        temporary.chmod(0o1777)
        places = [str(place) for place in self._visible]
        words = [*MACHINE, "bash", "-c", BOOT + WAIT, "boot", self.name, str(hosts), str(temporary), *places]
        self._first, self._pid = first_process(words, self.folder / "boot.log")
        return self._pid

    def start(self, command: str | Sequence[str | Path], cwd: Path | None = None, **options: Any) -> Command:
        """Start a command; `options` are those of Popen, `env` adds to the environment of this process.

        A text is given to a shell. Where nothing else is said, the output is piped, and `cwd` is the machine's folder.
        """
        words = ["bash", "-c", command] if isinstance(command, str) else [str(word) for word in command]
        here = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment = {**here, **options.pop("env", {})}
        enter = ["nsenter", "--target", str(self._pid), "--net", "--uts", "--ipc", "--mount", "--pid"]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = Command(
            [*enter, "env", "--chdir", str(cwd or self.folder), *words],
            **{**pipes, "text": True, "env": environment, "start_new_session": True, **options},
        )
        self._commands.append(process)
        return process

    def run(
        self, command: str | Sequence[str | Path], timeout: float = 120, check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; where `check`, it has to end with code 0."""
        process = self.start(command, **options)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate(timeout=10)
            raise AssertionError(f"{self.name}: {command} took more than {timeout} s\n{out}{err}") from None
        finally:
            self._commands.remove(process)
        done = subprocess.CompletedProcess(command, process.returncode, out, err)
        assert not check or done.returncode == 0, f"{self.name}: {command} ended with {done.returncode}\n{out}{err}"
        return done

    def unplug(self) -> None:
        """Cut the network: the machine runs on, and no packet comes or goes."""
        self.run(["ip", "link", "set", "eth0", "down"])

    def plug(self) -> None:
        self.run(["ip", "link", "set", "eth0", "up"])

    def kill(self) -> None:
        """Lose the machine: all of its processes end at once, and so does its network."""
        if self._first is not None and self._first.poll() is None:
            psutil.Process(self._pid).kill()
        if self._first is not None:
            self._first.communicate(timeout=30)
        for command in self._commands:
            command.wait(30)

    def close(self) -> None:
        """Lose the machine for good, with what its commands said that nobody read."""
        self.kill()
        for command in self._commands:
            for pipe in (command.stdin, command.stdout, command.stderr):
                if pipe is not None:
                    pipe.close()


class Machines:
    """Machines n1, n2, ... on one network, and a folder that all of them share."""

    def __init__(self, count: int = 2, visible: Iterable[Path] = ()) -> None:
        sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.shared = self.folder / "shared"
        self.shared.mkdir()
        self._hosts = self.folder / "hosts"
        repository = Path(__file__).parents[2]
        seen = [repository, Path(sys.prefix), Path(sys.base_prefix), self.folder, *visible]
        self._all: dict[str, Machine] = {}
        for number in range(1, count + 1):
            name = f"n{number}"
            machine = Machine(name, f"{NETWORK}.{number}", self.folder / name, seen)
            self._all[name] = machine
        lines = [f"{machine.address} {machine.name}" for machine in self._all.values()]
        self._hosts.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        switch = [*UNSHARE, "bash", "-c", f"ip link add br0 type bridge && ip link set br0 up && {WAIT}"]
        self._switch: subprocess.Popen[str] | None = None
        try:
            self._switch, self._bridge = first_process(switch, self.folder / "switch.log")
            for machine in self._all.values():
                self.boot(machine)
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Machine:
        return self._all[name]

    def __iter__(self) -> Iterator[Machine]:
        return iter(self._all.values())

    def boot(self, machine: Machine) -> None:
        """Start a machine, or one that was lost again, and put it on the network."""
        pid = machine.boot(self._hosts)
        port = f"{machine.name}-{pid}"[:15]
        link = f"ip link add eth0 netns {pid} type veth peer name {port} netns {self._bridge}"
        subprocess.run(shlex.split(link), check=True, timeout=30)
        plug = f"ip link set {port} master br0 && ip link set {port} up"
        subprocess.run(["nsenter", "--target", str(self._bridge), "--net", "sh", "-c", plug], check=True, timeout=30)
        machine.run(f"ip link set lo up && ip address add {machine.address}/24 dev eth0 && ip link set eth0 up")

    def close(self) -> None:
        """End all machines, and remove the folder."""
        for machine in self._all.values():
            machine.close()
        if self._switch is not None:
            self._switch.communicate(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)


def sweep() -> None:
    """Remove the folders of processes that were killed; all else of theirs ended with them."""
    for folder in Path("/tmp").glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def poll(ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until something is ready."""
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, f"{what}: not ready after {seconds:.0f} s"
        time.sleep(0.1)
