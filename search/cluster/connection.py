"""The cluster side of a launch: connect, check, describe, let go."""

from __future__ import annotations

import itertools
import logging
import os
import re
import secrets
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.cluster.spec import Address, Cluster, ClusterError, Local
from search.study.spec import StudySpec
from search.study.trials import rim_trials
from trainables.core.keys import canonical_json
from trainables.core.spec import plain
from trainables.method.phases import Prune

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_COLOR_PREFIX": "0",
}
OBJECT_STORE_BYTES = 256 * 1024**2
"""Trials exchange nothing but small reports; Ray's default would take a third of the memory."""


PATIENCE_SECONDS = 15
SILENT_LOOKS = 5
"""How many looks at a head, a second apart, may find nobody: it may be short of sockets for a moment."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Connection:
    """A cluster that answers, and how many trials fit on it at once. `alive` looks whether its head is there still."""

    dashboard: str
    capacity: int
    nodes: int
    alive: Callable[[], bool]


@contextmanager
def connected(cluster: Cluster, code_paths: tuple[str, ...] = ()) -> Iterator[Connection]:
    """Start or join the cluster for the length of a `with` block.

    `code_paths` are packages and modules that are sent to the workers.

    Raises:
        ClusterError: it is out of reach, its version or token does not fit, or a trial does not.
    """
    addressing = _addressing(cluster)
    _set_environment(cluster)
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    # Without a working directory of their own, workers would import from the one the launch was typed in.
    empty = tempfile.mkdtemp(prefix="robustsearch-")
    runtime_env: dict[str, Any] = {
        "working_dir": empty,
        "env_vars": {"OMP_NUM_THREADS": str(cluster.cpus_per_trial)},
    }
    if code_paths:
        runtime_env["py_modules"] = list(code_paths)
    options: dict[str, Any] = {
        "runtime_env": runtime_env,
        "logging_level": logging.CRITICAL,
        "log_to_driver": False,
        "configure_logging": True,
        "namespace": "robustsearch",
    }
    try:
        with _deaf_to_hangups():
            context = ray.init(**addressing, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError, PermissionError) as error:
        raise ClusterError(_explain(cluster, error)) from error
    finally:
        os.rmdir(empty)
    try:
        known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        nodes = [node["Resources"] for node in known if node["Alive"]]
        url = getattr(context, "dashboard_url", None) or ""
        alive = _own_processes_live() if isinstance(cluster, Local) else _answers(addressing["address"])
        yield Connection(f"http://{url}" if url else "", capacity(cluster, nodes), len(nodes), alive)
    finally:
        ray.shutdown()


@contextmanager
def _deaf_to_hangups() -> Iterator[None]:
    """Let processes that are started ignore SIGHUP: a closed terminal tells them too, and they have to save first."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


_VITAL = ("gcs_server", "raylet")


def _own_processes_live() -> Callable[[], bool]:
    """Return a check of the Ray processes that this one has started."""
    from ray._private import worker

    node: Any = worker._global_node

    def check() -> bool:
        return not any(kind in _VITAL for kind, _ in node.dead_processes())

    return check


def _answers(address: str) -> Callable[[], bool]:
    """Return a check of a cluster's head; one that does not answer `SILENT_LOOKS` times in a row is gone."""
    silent = 0

    def check() -> bool:
        nonlocal silent
        try:
            _answering(address)
            silent = 0
        except ClusterError:
            silent += 1
        return silent < SILENT_LOOKS

    return check


def _set_environment(cluster: Cluster) -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if isinstance(cluster, Local):
        os.environ["RAY_AUTH_MODE"] = "token"
        _private_token()
        return
    assert isinstance(cluster, Address)
    if cluster.token_file:
        path = Path(cluster.token_file).expanduser()
        if not path.is_file():
            raise ClusterError(f"the cluster's token file {path} does not exist")
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
    if _token_known():
        os.environ["RAY_AUTH_MODE"] = "token"
    elif cluster.allow_no_token:
        os.environ["RAY_AUTH_MODE"] = "disabled"
    else:
        raise ClusterError(
            "no token for the cluster: without one, anybody who reaches it can run code on it. Start Ray with "
            "RAY_AUTH_MODE=token and name the token_file in the cluster file, or write `allow_no_token: true` there"
        )


def _token_known() -> bool:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or path.is_file()


def local_token() -> Path:
    """Return where the token of local Rays is kept: not in Ray's own place, so that it is sent to no other cluster."""
    return Path.home() / ".robustsearch" / "ray_token"


def _private_token() -> None:
    """Make the local token, readable by its owner alone, unless the environment names one.

    Raises:
        ClusterError: the home directory does not let us.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = local_token()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, made = tempfile.mkstemp(dir=path.parent)  # mkstemp makes it readable by the owner alone.
        with open(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(made, path)
        os.unlink(made)
    except OSError as error:
        raise ClusterError(f"no token can be kept for Ray ({error}); name a file with RAY_AUTH_TOKEN_PATH") from error
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)


def _addressing(cluster: Cluster) -> dict[str, Any]:
    if isinstance(cluster, Local):
        return {
            "address": "local",
            "num_cpus": cluster.cpus,
            "num_gpus": cluster.gpus,
            "include_dashboard": True,
            "dashboard_host": "127.0.0.1",
            "dashboard_port": cluster.dashboard_port,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    assert isinstance(cluster, Address)
    return {"address": _answering(cluster.address)}


def _answering(address: str) -> str:
    """Return `host:port` of a cluster that accepts connections; Ray would wait minutes for one that has gone away.

    Raises:
        ClusterError: nothing listens there, or `auto` finds no cluster on this machine.
    """
    if address == "auto":
        noted = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / "ray_current_cluster"
        address = os.environ.get("RAY_ADDRESS") or (noted.read_text().strip() if noted.is_file() else "")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ClusterError("no Ray cluster runs on this machine (`address: auto`); start one, or write its address")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error
    return address


def _explain(cluster: Cluster, error: Exception) -> str:
    where = "on this machine" if isinstance(cluster, Local) else f"at {getattr(cluster, 'address', '')}"
    text = str(error)
    lowered = text.lower()
    if "version mismatch" in lowered or ("version" in lowered and "mismatch" in lowered):
        return f"the Ray cluster {where} runs another version of Ray or Python: {_first_lines(text)}"
    if "token" in lowered or "unauthenticated" in lowered or "authentication" in lowered:
        return f"the Ray cluster {where} does not accept the token: {_first_lines(text)}"
    if isinstance(cluster, Local):
        return f"Ray does not start {where}: {_first_lines(text)}"
    return (
        f"something listens {where}, but no Ray cluster lets this driver in; is the token that of the cluster? "
        f"({_first_lines(text)})"
    )


def _first_lines(text: str) -> str:
    plain = _COLOUR.sub("", text)
    return " ".join(line.strip() for line in plain.strip().splitlines()[:3])[:400]


def capacity(cluster: Cluster, nodes: list[dict[str, float]]) -> int:
    """Return how many trials fit at once on nodes with these resources.

    Raises:
        ClusterError: not even one fits, or fewer than `concurrency`.
    """
    fits = sum(_fit(cluster.resources, node) for node in nodes)
    asked = ", ".join(f"{amount:g} {name}" for name, amount in cluster.resources.items())
    offered = "; ".join(", ".join(f"{node.get(name, 0):g} {name}" for name in ("CPU", "GPU")) for node in nodes)
    if not fits:
        raise ClusterError(f"no node has what one trial asks for ({asked}); the nodes have: {offered or 'none alive'}")
    if cluster.concurrency and cluster.concurrency > fits:
        raise ClusterError(
            f"concurrency {cluster.concurrency} does not fit: of trials with {asked} each, "
            f"{fits} run at once on: {offered}"
        )
    return cluster.concurrency or fits


def _fit(ask: dict[str, float], node: dict[str, float]) -> int:
    """Count the trials that fit on a node; a fraction of a GPU cannot be put together from two GPUs."""
    fits = int(node.get("CPU", 0) // ask["CPU"])
    gpus = ask.get("GPU", 0)
    if gpus:
        per_gpu = int((1 + 1e-9) // gpus)
        available = int(node.get("GPU", 0))
        fits = min(fits, available * per_gpu if gpus <= 1 else int(available // gpus))
    return fits


def _networks(study: StudySpec) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Return the models that trials of a study have, each with the pruners that cut it, as plain data."""
    found: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {}
    for trial in rim_trials(study):
        model = plain(trial.model)
        pruners = found.setdefault(canonical_json(model), (model, {}))[1]
        for phase in trial.recipe.phases():
            if isinstance(phase, Prune):
                pruner = plain(phase.pruning.pruner)
                pruners[canonical_json(pruner)] = pruner
    return [(model, list(pruners.values())) for model, pruners in found.values()]


def ask_worker(
    cluster: Cluster, study: StudySpec, storage: str, *, gone: Callable[[], bool], say: Callable[[str], None]
) -> dict[str, Any] | None:
    """Run `trainables.worker.probe` on a worker with a trial's resources and return what it found.

    Waits for resources that others hold; None where `gone` turned true meanwhile.

    Raises:
        ClusterError: the worker cannot be started, has another version of this project, or the probe
            failed there (`exit_code` is that of the cause).
    """
    import ray

    from trainables import __version__
    from trainables.worker import probe

    options: dict[str, Any] = {"num_cpus": cluster.cpus_per_trial, "max_retries": 0}
    if cluster.gpus_per_trial:
        options["num_gpus"] = cluster.gpus_per_trial
    task: Any = ray.remote(**options)(probe.probe)
    answer = task.remote(
        plain(study.data),
        _networks(study),
        storage,
        study.plugins,
        study.recipe.train.precision,
        cluster.gpus_per_trial,
    )
    for second in itertools.count():
        if ray.wait([answer], timeout=1)[0]:
            break
        if gone():
            return None
        if second == PATIENCE_SECONDS:
            say("waiting for a worker: it reads the data for the first time, or others use the cluster's resources")
    try:
        found: dict[str, Any] = ray.get(answer)
    except (ray.exceptions.RayError, ImportError) as error:
        hint = (
            " (`code: ship` in the cluster file sends this project to the workers)"
            if "No module named 'trainables'" in str(error) or "failed to import" in str(error)
            else ""
        )
        raise ClusterError(f"a worker cannot run a trial: {_first_lines(str(error))}{hint}") from error
    if "error" in found:
        problem = ClusterError(found["error"])
        problem.exit_code = found["exit_code"]
        raise problem
    if found["versions"]["robustsearch"] != __version__:
        raise ClusterError(
            f"workers have robustsearch {found['versions']['robustsearch']}, this is {__version__}; install the same "
            "version there, or write `code: ship` in the cluster file"
        )
    return found
