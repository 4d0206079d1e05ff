"""Clusters of Ray: connect, probe a worker, disconnect."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from search.cluster import autoscaler, monitoring, ray_start
from search.cluster.base import Cluster, ClusterError, Connection, ProbeRequest
from search.cluster.capacity import Node, asked, capacity, living, room
from search.cluster.folder import RAY, launch_folder
from search.cluster.probing import Prober, task_options
from search.files.findings import Finding
from search.files.messages import counted
from trainables.core.errors import ExitCode
from trainables.core.ownership import open_to_others

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_COLOR_PREFIX": "0",
}
OBJECT_STORE_BYTES = 256 * 1024**2
"""Trials exchange nothing but small results; Ray's default would take a third of the memory."""

LOOK_SECONDS = 1.0
"""How often a launch that waits for nodes counts them."""
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

    def prestarted(self) -> int:
        """Return how many workers a Ray that is started here starts at once: one for each trial that fits."""
        return 0

    @abstractmethod
    def liveness(self, addressing: dict[str, Any]) -> Callable[[], bool]:
        """Return a cheap check of whether the connected cluster still runs."""

    @abstractmethod
    def refusal(self, reason: str) -> str:
        """Explain an error of `ray.init` that has to do with neither versions nor tokens."""

    def starting(self) -> Callable[[], bool]:
        return ray_start.starting_alive() if self.starts_ray else super().starting()

    def connect(
        self, code_paths: tuple[str, ...] = (), beside: Callable[[], None] | None = None
    ) -> AbstractContextManager[RayConnection]:
        return _connected(self, code_paths, beside)


@contextmanager
def _connected(
    cluster: RayCluster, code_paths: tuple[str, ...], beside: Callable[[], None] | None
) -> Iterator[RayConnection]:
    addressing = cluster.addressing()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    cluster.authenticate()
    if cluster.starts_ray:
        os.environ.update(monitoring.environment())
    import ray

    ray_start.use_token()
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with launch_folder() as folder, ExitStack() as stack:
        thread = threading.Thread(target=beside, name="beside", daemon=True)

        def begin() -> None:
            if thread.ident is None:
                thread.start()
                stack.callback(thread.join)

        arguments, code = {**addressing, **ray_start.options()}, (code_paths, cluster.cpus_per_trial)
        try:
            try:
                if cluster.starts_ray:
                    context = ray_start.start(arguments, folder, *code, cluster.prestarted(), begin)
                else:
                    begin()
                    context = ray_start.join(arguments, folder, *code, cluster.patience)
            except ClusterError:
                raise
            except Exception as error:
                raise ClusterError(_explain(cluster, error)) from error
            dashboard = ray_start.Dashboard() if cluster.starts_ray else getattr(context, "dashboard_url", None)
            connection = RayConnection(cluster, dashboard, cluster.liveness(addressing))
            if isinstance(dashboard, ray_start.Dashboard):
                stack.callback(dashboard.close)
                stack.enter_context(monitoring.listed(folder / RAY / "session_latest"))
                connection.metrics = _own_metrics()
            try:
                yield connection
            finally:
                connection.release()
        finally:
            ray.shutdown()


def _own_metrics() -> str:
    from ray._private import worker

    return monitoring.metrics_url(worker._global_node)


def _session_folder() -> Path:
    """Return the folder of the connected Ray on this node, with its sockets, logs and the code that is sent."""
    from ray._private import worker

    node: Any = worker._global_node
    return Path(node.get_session_dir_path())


def session_finding(folder: Path) -> Finding:
    """Return whether other users of this machine could replace what workers run from Ray's session folder."""
    problem = next((found for path in (folder, folder / "runtime_resources") if (found := open_to_others(path))), None)
    if problem is None:
        return Finding("ok", "session folder", f"{folder}; other users cannot change what is in it")
    return Finding(
        "warn",
        "session folder",
        f"{problem}: whoever can log in here can replace code that workers run as you; start Ray on every node with "
        "`--temp-dir` below a directory of yours that has mode 700",
    )


def _living() -> list[Node]:
    import ray

    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return living(known)


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


def _reason(error: Exception) -> str:
    """Return in a line why a task of Ray failed: the error that it raised itself, without Ray's traceback around it."""
    cause = getattr(error, "cause", None)
    return _first_lines(f"{type(cause).__name__}: {cause}" if isinstance(cause, Exception) else str(error))


class RayConnection(Connection):
    """Ray, connected to from this process."""

    def __init__(
        self, cluster: Cluster, dashboard: ray_start.Dashboard | str | None, alive: Callable[[], bool]
    ) -> None:
        super().__init__(0, 0)
        self._dashboard = dashboard
        self._views = self._view()
        self._cluster = cluster
        self._alive = alive
        self._requested = self._fits = 0
        self._read = 0.0

    def alive(self) -> bool:
        return self._alive()

    def views(self) -> Iterator[str]:
        while view := next(self._views, None):
            yield view

    def _view(self) -> Iterator[str | None]:
        """Yield each view once, and None while the dashboard starts."""
        if self.metrics:
            yield f"metrics for Prometheus: {self.metrics}"
        address = self._dashboard
        if isinstance(address, ray_start.Dashboard):
            yield None
            address.begin()
            while (found := address.address()) is None:
                yield None
            address = found
            if not address:
                yield "caution: the Ray dashboard did not start, and the search goes on without it"
        if address:
            way_in = monitoring.way_in()
            yield f"Ray dashboard: http://{address}{f'; {way_in}' if way_in else ''}"

    def wait_for_room(self, wait: float, *, cancelled: Callable[[], bool], say: Callable[[str], None]) -> bool:
        cluster = self._cluster
        growing = cluster.max_concurrency
        # This machine will not grow.
        patience = max(0.0 if cluster.this_machine else wait, cluster.patience)
        until, told, refusals = time.monotonic() + patience, False, None
        if growing and not room(cluster, _living()):
            refusals = autoscaler.Refusals()
            self._request(1)
        while missing := self._missing(nodes := _living()):
            if cancelled():
                return False
            if refusals is not None and refusals.found():
                raise ClusterError(
                    f"no type of node that the autoscaler starts has what one trial asks for ({asked(cluster)})"
                )
            if time.monotonic() >= until:
                raise ClusterError(f"{missing}; waited {patience:g} s" if patience else missing)
            if not told:
                say(f"waiting up to {patience:g} s: {missing}")
            told = True
            time.sleep(LOOK_SECONDS)
        self.nodes, self.capacity = len(nodes), growing or capacity(cluster, nodes)
        self._fits, self._read = room(cluster, nodes), time.monotonic()
        if growing:
            self._request(growing)
        return not cancelled()

    def _missing(self, nodes: Sequence[Node]) -> str:
        """Return in words what the cluster lacks before trials may start; empty where it lacks nothing."""
        wanted = self._cluster.nodes
        if wanted and len(nodes) < wanted:
            return f"{len(nodes)} of {counted(wanted, 'node')} {'is' if len(nodes) == 1 else 'are'} alive"
        try:
            capacity(self._cluster, nodes)
        except ClusterError as error:
            return str(error)
        return ""

    def fits_now(self, left: int) -> int | None:
        growing = self._cluster.max_concurrency
        if growing is None:
            return None
        if time.monotonic() - self._read >= autoscaler.READ_AGAIN_SECONDS:
            self._read = time.monotonic()
            nodes = _living()
            self.nodes, self._fits = len(nodes), room(self._cluster, nodes)
            self._request(min(growing, left))
        return self._fits

    def _request(self, count: int) -> None:
        if count != self._requested:
            autoscaler.request(self._cluster.resources, count)
            self._requested = count

    def release(self) -> None:
        """Ask the autoscaler for no nodes any more, where it was asked for some; a cluster that died has none."""
        if self._requested and self._alive():
            with suppress(ClusterError):
                self._request(0)

    def examine(self) -> Iterator[Finding]:
        """Yield what `doctor` says of the cluster; nothing is waited for or asked of an autoscaler."""
        nodes = _living()
        where, missing = self._cluster.where(), self._missing(nodes)
        if not missing:
            count = counted(room(self._cluster, nodes), "trial")
            yield Finding("ok", "cluster", f"{where} answers: {counted(len(nodes), 'node')}, room for {count} at once")
        elif self._cluster.nodes or self._cluster.max_concurrency:
            yield Finding(
                "warn", "cluster", f"{missing}; a launch waits up to {self._cluster.start_timeout:g} s for it"
            )
        else:
            yield Finding("fail", "cluster", missing)
        yield session_finding(_session_folder())

    def probe(
        self, request: ProbeRequest, *, cancelled: Callable[[], bool], say: Callable[[str], None]
    ) -> dict[str, Any] | None:
        """Probe a worker with a trial's resources on one node of each kind, and wait for resources that others use."""
        return Prober(self._cluster, request, cancelled, say, _reason).found(_living())

    def confirm(
        self, jobs: Sequence[dict[str, Any]], *, cancelled: Callable[[], bool], look: Callable[[], None]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Run each job as a task with a trial's resources; one whose worker died is run again, from its results."""
        import ray

        if isinstance(self._dashboard, ray_start.Dashboard):
            self._dashboard.begin()

        from trainables.worker import confirm

        task: Any = ray.remote(**{**task_options(self._cluster), "max_retries": 2})(confirm.run)
        waiting = deque(enumerate(jobs))
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < self.capacity and not cancelled():
                number, job = waiting.popleft()
                running[task.remote(job)] = number
            ended = ray.wait(list(running), timeout=1)[0] if running else []
            look()
            self.fits_now(len(running) + len(waiting))
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
        return {"done": [], "error": f"a worker died: {_reason(error)}", "kind": "crashed", "exit_code": code}
    return found
