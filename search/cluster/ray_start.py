"""Start Ray, or connect to it: what `ray.init` is given, and what holds while it runs."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from search.cluster.folder import RAY, VARIABLE, end_processes
from search.cluster.runtime_env import MERGE, runtime_env
from search.cluster.safe_path import safe_path
from search.cluster.watchdog import handle_again, signalled

TRIES = 3
"""How often a Ray of our own is started: on a busy machine it may not come up in the 30 s that it gives itself."""
LOOK_SECONDS = 10.0
"""How long a head may take to answer, and its first node to be alive: it registers seconds after the head answers."""
ALIVE = 0
"""The state of a living node, by Ray's protocol."""
VITAL = ("gcs_server", "raylet")
"""The processes without which a node of Ray is dead."""
_raylets: set[str] = set()
"""The sockets of the raylets on this machine of which one is being connected to."""
_again = threading.Event()
"""Set while the processes of a start that failed are ended."""
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0, Ray takes the loopback address for its own, and all its processes listen there alone."""


def options(cpus: int, code_paths: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Return the arguments of `ray.init` that do not depend on where the cluster is."""
    return {
        "runtime_env": runtime_env(cpus, code_paths, folder),
        "logging_level": logging.CRITICAL,
        "log_to_driver": False,
        "configure_logging": True,
        "namespace": "robustsearch",
    }


def start(arguments: dict[str, Any], folder: Path) -> Any:
    """Start Ray on this machine, on the loopback alone and with all its files in `folder`.

    Raises:
        Exception: it refuses, or did not come up in any of the tries.
    """
    import ray

    for left in reversed(range(TRIES)):
        try:
            with _loopback(), _free_agent_port(), _undisturbed(folder):
                # Ray makes its folder writable for all; the one around it stays private.
                return ray.init(**arguments, _temp_dir=str(folder / RAY))
        except (ValueError, PermissionError):
            raise
        except Exception:  # A bare one, where Ray waited in vain for its own processes.
            if ray.is_initialized() or not left or signalled():
                raise
        _again.set()
        end_processes(folder)
        _again.clear()


def join(arguments: dict[str, Any], folder: Path) -> Any:
    """Connect to a cluster that runs already.

    Raises:
        ConnectionError: a head answers, but no node of it is alive; connecting would end this process after a minute.
        Exception: it refuses.
    """
    import ray
    from ray import _raylet

    native: Any = _raylet
    client, until = native.GcsClient(address=arguments["address"]), time.monotonic() + LOOK_SECONDS
    while not (alive := [node for node in client.get_all_node_info(timeout=LOOK_SECONDS).values() if _alive(node)]):
        if signalled() or time.monotonic() > until:
            raise ConnectionError(f"no node of the cluster at {arguments['address']} is alive")
        time.sleep(0.5)
    _raylets.update(node.raylet_socket_name for node in alive if accepts(node.raylet_socket_name))
    try:
        with _undisturbed(folder):
            return ray.init(**arguments)
    finally:
        _raylets.clear()


def _alive(node: Any) -> bool:
    return bool(node.state == ALIVE)


def joining_alive() -> bool:
    """Return whether a raylet still answers that this process may be connecting to; Ray would end it after a minute."""
    sockets = list(_raylets)
    return not sockets or any(map(accepts, sockets))


def accepts(path: str) -> bool:
    """Return whether a process on this machine listens on a socket of the file system."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(path)
        except OSError:
            return False
    return True


def starting_alive() -> Callable[[], bool]:
    """Return a check of whether all vital processes still run that this process has started since."""
    seen: set[int] = set()

    def check() -> bool:
        living = _vital_children()
        if _again.is_set():
            seen.clear()
        if _again.is_set() or living is None:
            return True
        seen.update(living)
        return seen == living

    return check


def _vital_children() -> set[int] | None:
    """Return the ids of the living vital processes of this one, None where they cannot be known."""
    try:
        import psutil  # Ray brings it.

        children = psutil.Process().children()
        return {c.pid for c in children if c.name() in VITAL and c.status() != psutil.STATUS_ZOMBIE}
    except Exception:  # Ray is not imported yet, or a child ended meanwhile.
        return None


@contextmanager
def _loopback() -> Iterator[None]:
    """Let Ray, here and in the processes that are started, take the loopback address for its own."""
    from ray._private import ray_constants

    with _variable(LOOPBACK, "0"), _attribute(ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield


@contextmanager
def _free_agent_port() -> Iterator[None]:
    """Let the agent of the dashboard take a free port: where another Ray has the usual one, no log could be read."""
    from ray._private import parameter

    with _attribute(parameter, "RayParams", partial(parameter.RayParams, dashboard_agent_listen_port=0)):
        yield


@contextmanager
def _undisturbed(folder: Path) -> Iterator[None]:
    """Keep our own signal handlers, and mark the processes that are started as those of the launch.

    These do not receive SIGHUP: a closed terminal sends it to them too, and they save first. This process receives it
    at the end of the block, or in another thread.
    """
    from ray import _raylet
    from ray._private import utils

    native: Any = _raylet
    connected = native.CoreWorker

    def connect(*arguments: Any, **options: Any) -> Any:
        try:
            return connected(*arguments, **options)
        finally:
            handle_again()  # It takes SIGTERM for a crash of its own.

    kept = _attribute(utils, "set_sigterm_handler", lambda handler: None)
    ours = _variable(VARIABLE, str(folder)), _variable(MERGE, "1")
    with safe_path(), ours[0], ours[1], kept, _attribute(native, "CoreWorker", connect):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            handle_again()


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


@contextmanager
def _attribute(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
