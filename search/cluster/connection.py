"""Clusters of Ray: connect, probe a worker, disconnect."""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import time
import uuid
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, ClassVar

from search.cluster import monitoring, ray_start
from search.cluster.base import Cluster, ClusterError, Connection, ProbeRequest, checked_probe
from search.cluster.folder import RAY, launch_folder
from trainables.core.errors import ExitCode, StorageError
from trainables.store import paths
from trainables.store.storage import Storage
from trainables.worker.probe import NAME

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_COLOR_PREFIX": "0",
}
OBJECT_STORE_BYTES = 256 * 1024**2
"""Trials exchange nothing but small results; Ray's default would take a third of the memory."""

PATIENCE_SECONDS = 15
"""After this time without an answer from a worker, a message says what the launch waits for."""
REPORT_SECONDS = 4.0
"""How long a launch waits for the report on a worker that died, by its supervisor, which looks once a second."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class RayCluster(Cluster):
    """Base of the kinds whose trials run on Ray; a kind says how Ray is started or reached, and with which token."""

    starts_ray: ClassVar[bool] = False
    """Whether `ray.init` starts Ray on this machine; else it connects to one that runs."""

    @abstractmethod
    def authenticate(self) -> None:
        """Set the environment variables from which Ray takes its token.

        Raises:
            ClusterError: there is no token.
        """

    @abstractmethod
    def addressing(self) -> dict[str, Any]:
        """Return the arguments of `ray.init` that say where the cluster is.

        Raises:
            ClusterError: there is none.
        """

    @abstractmethod
    def liveness(self, addressing: dict[str, Any]) -> Callable[[], bool]:
        """Return a cheap check of whether the connected cluster still runs."""

    @abstractmethod
    def refusal(self, reason: str) -> str:
        """Explain an error of `ray.init` that has to do with neither versions nor tokens."""

    def starting(self) -> Callable[[], bool]:
        return ray_start.starting_alive() if self.starts_ray else super().starting()

    def connect(self, code_paths: tuple[str, ...] = ()) -> AbstractContextManager[Connection]:
        return _connected(self, code_paths)


@contextmanager
def _connected(cluster: RayCluster, code_paths: tuple[str, ...]) -> Iterator[Connection]:
    addressing = cluster.addressing()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    cluster.authenticate()
    if cluster.starts_ray:
        os.environ.update(monitoring.environment())
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with launch_folder() as folder, ExitStack() as stack:
        arguments = {**addressing, **ray_start.options(cluster.cpus_per_trial, code_paths, folder)}
        try:
            try:
                context = (ray_start.start if cluster.starts_ray else ray_start.join)(arguments, folder)
            except Exception as error:
                raise ClusterError(_explain(cluster, error)) from error
            known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
            nodes = [node["Resources"] for node in known if node["Alive"]]
            dashboard = getattr(context, "dashboard_url", None) or ""
            connection = RayConnection(cluster, nodes, dashboard, cluster.liveness(addressing))
            if cluster.starts_ray:
                stack.enter_context(monitoring.listed(folder / RAY / "session_latest"))
                connection.metrics = _own_metrics()
            yield connection
        finally:
            ray.shutdown()


def _own_metrics() -> str:
    from ray._private import worker

    return monitoring.metrics_url(worker._global_node)


def own_processes_alive() -> Callable[[], bool]:
    """Return a check of the Ray processes that this one started."""
    from ray._private import worker

    node: Any = worker._global_node
    return lambda: not any(kind in ray_start.VITAL for kind, _ in node.dead_processes())


def _explain(cluster: RayCluster, error: Exception) -> str:
    text = str(error)
    lowered = text.lower()
    if "version" in lowered and "mismatch" in lowered:
        return f"{cluster.where()} runs another version of Ray or Python: {_first_lines(text)}"
    if "token" in lowered or "unauthenticated" in lowered or "authentication" in lowered:
        return f"{cluster.where()} does not accept the token: {_first_lines(text)}"
    return cluster.refusal(_first_lines(text))


def _first_lines(text: str) -> str:
    plain = _COLOUR.sub("", text)
    return " ".join(line.strip() for line in plain.strip().splitlines()[:3])[:400]


class RayConnection(Connection):
    """Ray, connected to from this process."""

    def __init__(
        self, cluster: Cluster, nodes: list[dict[str, float]], dashboard: str, alive: Callable[[], bool]
    ) -> None:
        super().__init__(capacity(cluster, nodes), len(nodes), f"http://{dashboard}" if dashboard else "")
        self._cluster = cluster
        self._alive = alive

    def alive(self) -> bool:
        return self._alive()

    def views(self) -> Iterator[str]:
        if self.dashboard:
            way_in = monitoring.way_in()
            yield f"Ray dashboard: {self.dashboard}{f'; {way_in}' if way_in else ''}"
        if self.metrics:
            yield f"metrics for Prometheus: {self.metrics}"

    def probe(
        self, request: ProbeRequest, *, cancelled: Callable[[], bool], say: Callable[[str], None]
    ) -> dict[str, Any] | None:
        """Run the probe on a worker with a trial's resources, and wait for resources that others use."""
        import ray

        from trainables import __version__
        from trainables.worker import probe

        gpus = self._cluster.gpus_per_trial
        report = f"{paths.PROBE}{uuid.uuid4().hex}"
        options: dict[str, Any] = {"num_cpus": self._cluster.cpus_per_trial, "max_retries": 0}
        if gpus:
            options["num_gpus"] = gpus
        task: Any = ray.remote(**options)(probe.probe)
        answer = task.remote(
            request.data,
            request.networks,
            request.storage,
            request.plugins,
            request.precision,
            gpus,
            request.trials,
            request.silence,
            report,
        )
        for second in itertools.count():
            if ray.wait([answer], timeout=1)[0]:
                break
            if cancelled():
                return None
            if second == PATIENCE_SECONDS:
                say("waiting for a worker: it reads the data for the first time, or others use the cluster's resources")
        try:
            found: dict[str, Any] = ray.get(answer)
        except (ray.exceptions.RayError, ImportError) as error:
            if isinstance(error, ray.exceptions.WorkerCrashedError) and request.silence is not None:
                _explain_death(Storage(request.storage), report)
            hint = (
                " (`code: ship` in the cluster file sends this project to the workers)"
                if "No module named 'trainables'" in str(error) or "failed to import" in str(error)
                else ""
            )
            raise ClusterError(f"a worker cannot run a trial: {_first_lines(str(error))}{hint}") from error
        found = checked_probe(found)
        if found["versions"]["robustsearch"] != __version__:
            raise ClusterError(
                f"workers have robustsearch {found['versions']['robustsearch']}, this is {__version__}; install the "
                "same version there, or write `code: ship` in the cluster file"
            )
        return found

    def confirm(
        self, jobs: Sequence[dict[str, Any]], *, cancelled: Callable[[], bool], look: Callable[[], None]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Run each job as a task with a trial's resources; one whose worker died is run again, from its results."""
        import ray

        from trainables.worker import confirm

        options: dict[str, Any] = {"num_cpus": self._cluster.cpus_per_trial, "max_retries": 2}
        if gpus := self._cluster.gpus_per_trial:
            options["num_gpus"] = gpus
        task: Any = ray.remote(**options)(confirm.run)
        waiting = deque(enumerate(jobs))
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < self.capacity and not cancelled():
                number, job = waiting.popleft()
                running[task.remote(job)] = number
            ended = ray.wait(list(running), timeout=1)[0] if running else []
            look()
            for answer in ended:
                yield running.pop(answer), _answered(answer)
            if cancelled():
                for answer in running:
                    ray.cancel(answer, force=True)
                return


def _answered(answer: Any) -> dict[str, Any]:
    """Return what a job answered, or that its process died."""
    import ray

    try:
        found: dict[str, Any] = ray.get(answer)
    except (ray.exceptions.RayError, ImportError) as error:
        code = int(ExitCode.CLUSTER)
        return {"done": [], "error": f"a worker died: {_first_lines(str(error))}", "kind": "crashed", "exit_code": code}
    return found


def _explain_death(storage: Storage, report: str) -> None:
    """Say why the process of a probe died, if its supervisor has left a report.

    Raises:
        ClusterError: there is one; a probe that hangs is bad input.
    """
    until, said = time.monotonic() + REPORT_SECONDS, None
    while said is None and time.monotonic() < until:
        try:
            said = json.loads(storage.read(report))
            storage.delete(report)
        except (OSError, ValueError, StorageError):
            time.sleep(0.1)
    if said is None:
        return
    problem = ClusterError(f"{NAME} failed: {said['message']}" if said["kind"] != "timeout" else said["message"])
    if said["kind"] == "timeout":
        problem.exit_code = ExitCode.BAD_INPUT
    raise problem


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
