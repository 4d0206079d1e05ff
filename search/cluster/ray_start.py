"""Start Ray, or connect to it: what `ray.init` is given, and what holds while it runs."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from search.cluster.base import ClusterError
from search.cluster.folder import RAY, VARIABLE, end_processes
from search.cluster.runtime_env import MERGE, own_workers, runtime_env
from search.cluster.safe_path import safe_path
from search.cluster.watchdog import handle_again, signalled

TRIES = 3
"""How often a Ray of our own is started: on a busy machine it may not come up in the 30 s that it gives itself."""
LOOK_SECONDS = 10.0
"""How long a head may take to answer, and its first node to be alive: it registers seconds after the head answers."""
HERE_SECONDS = 60.0
"""How long after nodes elsewhere the one of this machine may be alive."""
LOOK_EVERY = 0.5
ALIVE = 0
"""The state of a living node, by Ray's protocol."""
RAYLET = "raylet"
VITAL = ("gcs_server", RAYLET)
"""The processes without which a node of Ray is dead."""
_raylets: set[str] = set()
"""The sockets of the raylets on this machine of which one is being connected to."""
_again = threading.Event()
"""Set while the processes of a start that failed are ended."""
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0, Ray takes the loopback address for its own, and all its processes listen there alone."""
DASHBOARD = "dashboard"
LATER = ("monitor", DASHBOARD)
"""The processes that only show what runs; they take two seconds of processor time to start."""
WAIT = 'read -r line && exec "$0" "$@" </dev/null'
"""How they wait for a line; without one, their launch has died."""
NEEDED = ("aiohttp_cors", "grpc", "opencensus", "opentelemetry", "prometheus_client")
"""Packages of Ray's dashboard and of its agents."""
PENDING = b"pending"
"""What stands for the dashboard's address until it has one."""


def options() -> dict[str, Any]:
    """Return the arguments of `ray.init` that do not depend on where the cluster is."""
    return {
        "logging_level": logging.CRITICAL,
        "log_to_driver": False,
        "configure_logging": True,
        "namespace": "robustsearch",
    }


def use_token() -> None:
    """Have Ray take the token that the environment names now: it read the environment when it was imported."""
    from ray import _raylet

    native: Any = _raylet
    mode = os.environ["RAY_AUTH_MODE"]
    if native.get_authentication_mode() != getattr(native.AuthenticationMode, mode.upper()):
        native.Config.initialize(json.dumps({"AUTH_MODE": mode}).encode())
    native.AuthenticationTokenLoader.instance().reset_cache()


def start(
    arguments: dict[str, Any],
    folder: Path,
    code_paths: tuple[str, ...],
    cpus: int,
    workers: int,
    meanwhile: Callable[[], None],
) -> Any:
    """Start Ray on this machine, on the loopback alone and with all its files in `folder`.

    `workers` processes that compute on `cpus` threads and see `code_paths` load at once what trials need. `meanwhile()`
    is called when there is nothing to do for this process but to wait. The dashboard starts with `Dashboard`.

    Raises:
        Exception: it refuses, or did not come up in any of the tries.
    """
    import ray

    given, variables = own_workers(cpus, code_paths, folder)
    for left in reversed(range(TRIES)):
        try:
            with _loopback(), _few_processes(workers, meanwhile), _undisturbed(folder, variables):
                # Ray makes its folder writable for all; the one around it stays private.
                return ray.init(**arguments, **given, _temp_dir=str(folder / RAY))
        except (ValueError, PermissionError):
            raise
        except Exception:  # A bare one, where Ray waited in vain for its own processes.
            if ray.is_initialized() or not left or signalled():
                raise
        _again.set()
        end_processes(folder)
        _again.clear()


def join(arguments: dict[str, Any], folder: Path, code_paths: tuple[str, ...], cpus: int, patience: float = 0.0) -> Any:
    """Connect to a cluster that runs already; workers compute on `cpus` threads, and `code_paths` are sent to them.

    For its first node it waits `patience` seconds if that is longer than `LOOK_SECONDS`, and for the one here
    `HERE_SECONDS` after that.

    Raises:
        ClusterError: a head answers, but has no living node here; connecting would end this process after a minute.
        Exception: it refuses.
    """
    import ray
    from ray import _raylet

    native: Any = _raylet
    client, elsewhere = native.GcsClient(address=arguments["address"]), False
    until = time.monotonic() + max(patience, LOOK_SECONDS)
    while True:
        alive = [node for node in client.get_all_node_info(timeout=LOOK_SECONDS).values() if node.state == ALIVE]
        if here := {node.raylet_socket_name for node in alive if accepts(node.raylet_socket_name)}:
            break
        if alive and not elsewhere:
            elsewhere, until = True, time.monotonic() + HERE_SECONDS
        if signalled() or time.monotonic() > until:
            raise ClusterError(_no_node(arguments["address"], len(alive)))
        time.sleep(LOOK_EVERY)
    _raylets.update(here)
    try:
        with _undisturbed(folder):
            return ray.init(**arguments, runtime_env=runtime_env(cpus, code_paths, folder))
    finally:
        _raylets.clear()


def _no_node(address: str, alive: int) -> str:
    if not alive:
        return f"no node of the Ray cluster at {address} is alive"
    nodes, one = ("its node is", "it") if alive == 1 else (f"its {alive} nodes are", "one of them")
    return f"this machine is not a node of the Ray cluster at {address}, {nodes} elsewhere: launch on {one}"


def joining_alive() -> bool:
    """Return whether a raylet still answers that this process may be connecting to; Ray would end it after a minute."""
    sockets = list(_raylets)
    return not sockets or any(map(accepts, sockets))


def own_raylet() -> str:
    """Return the socket of the raylet through which this process, which is connected, asks for workers."""
    from ray._private import worker

    node: Any = worker._global_node
    return str(node.raylet_socket_name)


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
def _few_processes(workers: int, meanwhile: Callable[[], None]) -> Iterator[None]:
    """Start what trials need: `workers`, no copier of logs, and what only shows something once it is told to.

    The agent of the dashboard takes a free port: where another Ray has the usual one, no log could be read.
    """
    from ray._private import parameter, services, utils
    from ray.experimental import internal_kv

    fewer: dict[str, Any] = {"include_log_monitor": False}
    less = partial(parameter.RayParams, dashboard_agent_listen_port=0, **fewer)
    run, ask, lacking = services.start_ray_process, internal_kv._internal_kv_get, utils.get_dashboard_dependency_error

    def started(command: list[str], process_type: str, *rest: Any, **more: Any) -> Any:
        if process_type in LATER:
            return run(["/bin/sh", "-c", WAIT, *command], process_type, *rest, **{**more, "pipe_stdin": True})
        many = "--num_prestart_python_workers="
        command = [f"{many}{workers}" if part.startswith(many) else part for part in command]
        process = run(command, process_type, *rest, **more)
        if process_type == RAYLET:
            meanwhile()
        return process

    def answered(key: Any, *rest: Any, **more: Any) -> Any:
        return PENDING if key == _address_key() else ask(key, *rest, **more)

    changes = (
        (parameter, "RayParams", less),
        (services, "start_ray_process", started),
        (internal_kv, "_internal_kv_get", answered),
        # It imports them all, although the distribution requires them.
        (utils, "get_dashboard_dependency_error", lambda: None if all(map(find_spec, NEEDED)) else lacking()),
    )
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(_attribute(*change))
        yield


def _address_key() -> Any:
    from ray._private import ray_constants

    return ray_constants.DASHBOARD_ADDRESS


class Dashboard:
    """The dashboard of a Ray that this process has started: it starts when trials run, not before."""

    def __init__(self) -> None:
        from ray._private import worker

        node: Any = worker._global_node
        self._node = node
        self._processes = [info.process for kind in LATER for info in node.all_processes.get(kind, ())]
        self._waiting = False

    def begin(self) -> None:
        """Start it."""
        self._tell(b"\n")
        self._waiting = True

    def close(self) -> None:
        """End what still waits."""
        self._tell(b"")

    def _tell(self, line: bytes) -> None:
        for process in self._processes:
            with suppress(OSError, ValueError):  # It has ended, or was told.
                process.stdin.write(line)
                process.stdin.close()

    def address(self) -> str | None:
        """Return its address where it has come up since the last call; an empty one where it never will."""
        from ray._private import ray_constants
        from ray.exceptions import RpcError

        if not self._waiting:
            return None
        client, found = self._node.get_gcs_client(), None
        with suppress(RpcError):  # The cluster is busy, or dead, which the watchdog finds.
            found = client.internal_kv_get(_address_key().encode(), ray_constants.KV_NAMESPACE_DASHBOARD, timeout=1)
        if found is None and any(kind == DASHBOARD for kind, _ in self._node.dead_processes()):
            found = b""
        if found is None:
            return None
        self._waiting = False
        self._node._webui_url = found.decode()
        with suppress(RpcError):
            client.internal_kv_put(b"webui:url", found, True, ray_constants.KV_NAMESPACE_DASHBOARD)
        return str(self._node.webui_url)


@contextmanager
def _undisturbed(folder: Path, variables: Mapping[str, str] | None = None) -> Iterator[None]:
    """Keep our signal handlers and debugger; mark the processes that are started, with `variables`, as the launch's.

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
    with ExitStack() as stack:
        # Ray's own debugger of drivers needs a package that is not installed.
        for context in (safe_path(), kept, _attribute(native, "CoreWorker", connect), _kept("PYTHONBREAKPOINT")):
            stack.enter_context(context)
        for name, value in {VARIABLE: str(folder), MERGE: "1", **(variables or {})}.items():
            stack.enter_context(_variable(name, value))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            handle_again()


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    with _kept(name):
        os.environ[name] = value
        yield


@contextmanager
def _kept(name: str) -> Iterator[None]:
    """Give a variable of the environment back its value at the end."""
    before = os.environ.get(name)
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
