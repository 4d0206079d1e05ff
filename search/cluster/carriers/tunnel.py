"""A port of this machine that leads to one of a cluster's head, by ssh."""

from __future__ import annotations

import select
import socket
import subprocess
import tempfile
import time

from search.cluster.base import ClusterError
from search.cluster.carriers.ray_launcher import Head

OPEN_SECONDS = 60.0
_UP = b"up\n"
_OPTIONS = {
    "BatchMode": "yes",
    "ExitOnForwardFailure": "yes",
    "ConnectTimeout": "30",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "4",
    "ControlPath": "none",
    "LogLevel": "ERROR",
    # As Ray's launcher: addresses of rented machines are used again by others.
    "StrictHostKeyChecking": "no",
    "UserKnownHostsFile": "/dev/null",
}


class Tunnel:
    """An open tunnel; `port` is that of this machine's loopback.

    It ends with the process that holds it, however that ends: ssh reads from it.
    """

    def __init__(self, head: Head, remote_port: int) -> None:
        """Open it.

        Raises:
            ClusterError: ssh is missing, or does not get through.
        """
        self.port = _free_port()
        with tempfile.TemporaryFile() as errors:
            try:
                self._ssh = subprocess.Popen(
                    command(head, self.port, remote_port),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                )
            except FileNotFoundError:
                raise ClusterError("ssh is not installed here; it is the way to the head of the cluster") from None
            if self._opened():
                return
            self.close()
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else f"no answer in {OPEN_SECONDS:.0f} s"
        raise ClusterError(f"no way by ssh to the head of the cluster, {head.user}@{head.address}: {reason}")

    @property
    def open(self) -> bool:
        """Whether it still leads to the head."""
        return self._ssh.poll() is None

    def close(self) -> None:
        """Close it; twice is not an error."""
        if self._ssh.poll() is None:
            self._ssh.kill()
        self._ssh.wait()
        for pipe in (self._ssh.stdin, self._ssh.stdout):
            if pipe is not None:
                pipe.close()

    def _opened(self) -> bool:
        """Wait for the word of the command on the head, which starts when the port is ours."""
        assert self._ssh.stdout is not None
        until = time.monotonic() + OPEN_SECONDS
        said = b""
        while not said.endswith(_UP):
            if not select.select([self._ssh.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                return False
            if not (part := self._ssh.stdout.read1(64)):  # type: ignore[attr-defined]
                return False
            said += part
        return True


def command(head: Head, port: int, remote_port: int) -> list[str]:
    """Return the command that opens a tunnel to the loopback of the head."""
    options = [word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}")]
    key = ["-i", head.key, "-o", "IdentitiesOnly=yes"] if head.key else []
    proxy = ["-o", f"ProxyCommand={head.proxy}"] if head.proxy else []
    forward = ["-L", f"127.0.0.1:{port}:127.0.0.1:{remote_port}"]
    return [
        "ssh",
        "-T",
        *options,
        *key,
        *proxy,
        *forward,
        f"{head.user}@{head.address}",
        "echo up; exec cat > /dev/null",
    ]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
