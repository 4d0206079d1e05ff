"""Probe the nodes of a Ray cluster: each is asked for its versions and the storage, and one of each kind runs a probe.

What one worker finds holds for all: nodes that would measure something else are refused, and what may differ is said.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.cluster.base import Cluster, ClusterError, ProbeRequest, checked_probe
from search.cluster.capacity import Node, fit, living
from search.files.messages import counted
from trainables import __version__
from trainables.core.errors import ExitCode, StorageError
from trainables.store import paths, worker_reports
from trainables.store.storage import Storage
from trainables.worker.probe import NAME

PATIENCE_SECONDS = 15
"""After this time without an answer from a worker, a message says what the launch waits for."""
REPORT_SECONDS = 15.0
"""How long a launch waits for the supervisor's report on a worker that died; it looks once a second."""
MARK_SECONDS = 10.0
"""How long what a node has written may take to be seen here: NFS remembers for seconds that a file was missing."""

Found = dict[str, Any]
Cancelled = Callable[[], bool]
Say = Callable[[str], None]


@dataclass
class Prober:
    """Probes of one launch. `reason` makes a line of an error of Ray."""

    cluster: Cluster
    request: ProbeRequest
    cancelled: Cancelled
    say: Say
    reason: Callable[[Exception], str]

    def found(self, nodes: Sequence[Node]) -> Found | None:
        """Return what the probes found, of which all agree; None if the launch was cancelled meanwhile.

        Raises:
            ClusterError: a node cannot run trials, or nodes differ in what must be equal.
        """
        able = [node for node in nodes if fit(self.cluster.resources, node.resources)]
        if len(able) < 2:
            return self._probed({None: able[:1]})
        surveys = self._surveyed(able)
        if surveys is None:
            return None
        kinds: dict[Any, list[Node]] = {}
        for node in able:
            if node.id in surveys:
                kind = node.signature, tuple(sorted(surveys[node.id]["versions"].items()))
                kinds.setdefault(kind, []).append(node)
        return self._probed(kinds)

    def _surveyed(self, nodes: Sequence[Node]) -> dict[str, Found] | None:
        """Ask each node for its versions, and that it has the storage of this launch; return the answers by node.

        A node that dies meanwhile is left out.
        """
        from trainables.worker import survey

        tasks = {node.id: self._task(survey.survey, node, light=True).remote(self.request.storage) for node in nodes}
        if not self._waited(tasks.values(), "waiting for a process on each node"):
            return None
        surveys: dict[str, Found] = {}
        for node in nodes:
            answer = self._answer(tasks[node.id], node, None)
            if answer is not None:
                surveys[node.id] = answer
        names = _names(nodes)
        for identity, survey_ in surveys.items():
            check_version(survey_["versions"], names[identity])
        shared(Storage(self.request.storage), {names[identity]: each for identity, each in surveys.items()})
        return surveys

    def _probed(self, kinds: Mapping[Any, Sequence[Node]]) -> Found | None:
        """Run the probe on one node of each kind; where that dies, on the next."""
        if len(kinds) > 1:
            self.say(f"probing a node of each of {len(kinds)} kinds")
        left: dict[Any, deque[Node | None]] = {
            kind: deque(nodes) if kind is not None and nodes else deque([None]) for kind, nodes in kinds.items()
        }
        answers: dict[Any, Found] = {}
        waits = "waiting for a worker: it reads the data for the first time, or others use the cluster's resources"
        while chosen := {kind: nodes.popleft() for kind, nodes in left.items() if nodes and kind not in answers}:
            reports = {kind: f"{paths.PROBE}{uuid.uuid4().hex}" for kind in chosen}
            tasks = {kind: self._probe(node, reports[kind]) for kind, node in chosen.items()}
            if not self._waited(tasks.values(), waits):
                return None
            for kind, node in chosen.items():
                answer = self._answer(tasks[kind], node, reports[kind])
                if answer is not None:
                    found = answers[kind] = checked_probe(answer)
                    check_version(found["versions"], found["host"])
                    check_device(found, self.cluster.gpus_per_trial)
        if not answers:
            raise ClusterError("all nodes died while they were probed")
        return agreed([(answers[kind], max(1, len(kinds[kind]))) for kind in kinds if kind in answers], self.say)

    def _probe(self, node: Node | None, report: str) -> Any:
        """Start the probe with a trial's resources, on a node or on any; its supervisor writes the report."""
        from trainables.worker import probe

        task = self._task(probe.probe, node)
        return task.remote(**vars(self.request), gpus=self.cluster.gpus_per_trial, report=report)

    def _task(self, function: Any, node: Node | None, *, light: bool = False) -> Any:
        """Return a function as a task of Ray: with a trial's resources, or a `light` one; on a node, or on any."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options: dict[str, Any] = {"num_cpus": 0, "max_retries": 0} if light else task_options(self.cluster)
        if node is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node.id, soft=False)
        return ray.remote(**options)(function)

    def _waited(self, tasks: Iterable[Any], waits: str) -> bool:
        """Wait for all tasks; return whether they have ended before the launch was cancelled."""
        import ray

        left, seconds = list(tasks), 0
        while left:
            _, left = ray.wait(left, num_returns=len(left), timeout=1)
            if left and self.cancelled():
                return False
            if left and (seconds := seconds + 1) == PATIENCE_SECONDS:
                self.say(waits)
        return True

    def _answer(self, task: Any, node: Node | None, report: str | None) -> Found | None:
        """Return what a task answers; None where its node has died.

        Raises:
            ClusterError: the node lives, and its worker cannot run the task.
        """
        import ray

        try:
            found: Found = ray.get(task)
        except (ray.exceptions.RayError, ImportError) as error:
            if node is not None and _died(node, error):
                return None
            crashed = isinstance(error, ray.exceptions.WorkerCrashedError)
            if crashed and report is not None and self.request.silence is not None:
                explain_death(Storage(self.request.storage), report)
                if node is not None and _died(node, error):  # Ray lists it as dead by now.
                    return None
            hint = (
                " (`code: ship` in the cluster file sends this project to the workers)"
                if "No module named 'trainables'" in str(error) or "failed to import" in str(error)
                else ""
            )
            raise ClusterError(f"a worker cannot run a trial: {self.reason(error)}{hint}") from error
        return found


def _died(node: Node, error: Exception) -> bool:
    """Return whether a task failed because its node has died.

    Ray knows that of the task at once, and lists a node whose raylet was killed as alive for 12 more seconds.
    """
    import ray

    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return isinstance(error, ray.exceptions.NodeDiedError) or node.id not in {alive.id for alive in living(known)}


def task_options(cluster: Cluster) -> dict[str, Any]:
    """Return how Ray is asked for a task with a trial's resources."""
    others = {name: amount for name, amount in cluster.resources.items() if name not in ("CPU", "GPU")}
    options: dict[str, Any] = {"num_cpus": cluster.cpus_per_trial, "max_retries": 0}
    options |= {"num_gpus": cluster.gpus_per_trial} if cluster.gpus_per_trial else {}
    return options | ({"resources": others} if others else {})


def _names(nodes: Iterable[Node]) -> dict[str, str]:
    """Return what messages call each node: its host, with the beginning of its identity where hosts are not unique."""
    hosts = [node.host for node in nodes]
    return {node.id: node.host if hosts.count(node.host) == 1 else f"{node.host} ({node.id[:8]})" for node in nodes}


def check_version(found: Mapping[str, str], host: str) -> None:
    """Refuse workers with another version of this project.

    Raises:
        ClusterError: names the node and both versions.
    """
    if found["robustsearch"] != __version__:
        raise ClusterError(
            f"workers have robustsearch {found['robustsearch']} on {host}, this is {__version__}; install the same "
            "version there, or write `code: ship` in the cluster file"
        )


def check_device(found: Found, gpus: float) -> None:
    """Refuse a worker that was given GPUs of which torch sees none: its trials would run on the CPU.

    Raises:
        ClusterError: names the node.
    """
    if gpus and found["device"] == "cpu":
        raise ClusterError(
            f"a trial asks for {gpus:g} GPUs, but torch {found['versions'].get('torch', '')} sees none on "
            f"{found['host']}; install a build of torch for its driver there, or write `gpus_per_trial: 0`"
        )


def shared(storage: Storage, surveys: Mapping[str, Found]) -> None:
    """Check that nodes, by name, read the lease that this launch holds, and that it sees what they have written.

    Raises:
        ClusterError: names the node and the storage.
    """
    token = json.loads(storage.read(paths.DRIVER)).get("token")
    waiting = {name: survey["mark"] for name, survey in surveys.items() if survey["mark"] is not None}
    until = time.monotonic() + MARK_SECONDS
    while True:
        for name, mark in list(waiting.items()):
            if storage.exists(mark):
                storage.delete(mark)
                del waiting[name]
        if not waiting or time.monotonic() > until:
            break
        time.sleep(0.2)
    for name, survey in surveys.items():
        if "error" in survey:
            raise ClusterError(f"on {name}: {survey['error']}")
        if survey["token"] != token or name in waiting:
            missing = f"it has no {paths.DRIVER}" if survey["token"] is None else "it has other files"
            raise ClusterError(
                f"on {name}: {storage.location} is not the directory that the launch writes to: {missing}; mount one "
                "shared directory on every node, or use a URI"
            )


def agreed(answers: Sequence[tuple[Found, int]], say: Say) -> Found:
    """Return the first of what probes found, each with the number of nodes of its kind; say where others differ.

    Sparse matrices are faster where they are on all of them.

    Raises:
        ClusterError: they differ in the data, or in the precision that `auto` stands for.
    """
    first = answers[0][0]
    for other, _ in answers[1:]:
        for name, what in (("fingerprint", "the training data differ"), ("split_hash", "the validation splits differ")):
            if other[name] != first[name]:
                raise ClusterError(
                    f"{what}: {first[name][:12]} on {first['host']}, {other[name][:12]} on {other['host']}; give every "
                    "node the same files"
                )
        if other["precision"] != first["precision"]:
            raise ClusterError(
                f"precision auto is {first['precision']} on {first['host']} ({first['device']}) and "
                f"{other['precision']} on {other['host']} ({other['device']}); write one as recipe.train.precision, or "
                "name an `accelerator` in the cluster file"
            )
        _say_versions(first, other, say)
    devices: dict[str, int] = {}
    for found, nodes in answers:
        devices[found["device"]] = devices.get(found["device"], 0) + nodes
    if len(devices) > 1:
        each = ", ".join(f"{device} on {counted(nodes, 'node')}" for device, nodes in devices.items())
        say(f"trials run on different devices: {each}; their times differ, and so may the last digits of results")
    return {**first, "sparse": all(found["sparse"] for found, _ in answers)}


def _say_versions(first: Found, other: Found, say: Say) -> None:
    names = sorted(first["versions"].keys() | other["versions"].keys())
    pairs = [(name, first["versions"].get(name, "none"), other["versions"].get(name, "none")) for name in names]
    differing = [f"{name} {here} and {there}" for name, here, there in pairs if here != there]
    if differing:
        say(
            f"caution: versions differ between {first['host']} and {other['host']}: {', '.join(differing)}; the same "
            "trial may give other numbers there"
        )


def explain_death(storage: Storage, report: str) -> None:
    """Say why the process of a probe died, if its supervisor has left a report.

    Raises:
        ClusterError: there is one; a probe that hangs is bad input.
    """
    try:
        said = worker_reports.take(storage, report, REPORT_SECONDS)
    except StorageError:
        return
    if said is None:
        return
    if said.kind != "timeout":
        raise ClusterError(f"{NAME} failed: {said.message}")
    problem = ClusterError(said.message)
    problem.exit_code = ExitCode.BAD_INPUT
    raise problem
