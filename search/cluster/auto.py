"""Which Ray cluster `address: auto` is: the one that Ray's own `auto` finds, where only one comes into question."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from search.cluster.base import ClusterError
from search.cluster.folder import PREFIX

VARIABLE = "RAY_ADDRESS"
_FLAG = "--gcs-address="


def host_and_port(address: str) -> tuple[str, int] | None:
    """Return the parts of an address such as 10.0.0.1:6379, None where it is none."""
    host, _, port = address.rpartition(":")
    valid = host and "/" not in host and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536
    return (host, int(port)) if valid else None


def located(address: str) -> str:
    """Return `host:port` of a cluster; for `auto`, that of RAY_ADDRESS, or of the one that has a node on this machine.

    Of several, it is the one that `ray start` has noted last, as for Ray itself.

    Raises:
        ClusterError: there is none, or several; the message says what to write.
    """
    if address != "auto":
        return address
    if (given := os.environ.get(VARIABLE, "")) not in ("", "auto", "local"):
        if host_and_port(given) is None:
            raise ClusterError(
                f"{VARIABLE} is {given}, and not host:port of a Ray cluster's head; change it, or write "
                "`address: host:port` in the cluster file"
            )
        return given
    found, noted = sorted(running()), _noted()
    if len(found) == 1:
        return found[0]
    if noted and (noted in found or not found):
        return noted
    if found:
        raise ClusterError(
            f"{len(found)} Ray clusters have a node on this machine ({', '.join(found)}); write the address of one in "
            f"the cluster file, such as `address: {found[0]}`, or set {VARIABLE}"
        )
    raise ClusterError(
        "no Ray cluster runs on this machine (`address: auto`); start one with `ray start --head`, or write "
        "`address: host:port` of its head in the cluster file"
    )


def running() -> set[str]:
    """Return the addresses of the clusters that have a node on this machine, but those of other launches."""
    try:
        import psutil  # Ray brings it.
    except ImportError:
        return set()
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.name() == "raylet":
                arguments = process.cmdline()
                if not any(f"/{PREFIX}" in argument for argument in arguments):
                    found |= {each.removeprefix(_FLAG) for each in arguments if each.startswith(_FLAG)}
    return found - {""}


def _noted() -> str:
    """Return the address that `ray start` has written down last in its folder for temporary files; empty without."""
    folder = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()))
    try:
        return (folder / "ray" / "ray_current_cluster").read_text().strip()
    except OSError:
        return ""
