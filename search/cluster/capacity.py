"""The nodes of a cluster as Ray describes them, and how many trials fit on them at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search.cluster.base import ACCELERATOR, Cluster, ClusterError

_OF_ONE_NODE = re.compile(r"node:|memory$|object_store_memory$|CPU_group_|GPU_group_|bundle_group_")
"""Resources that tell apart nodes of one kind: their addresses, and memory, which differs by a few bytes."""
GROUP = "ray.io/node-group"
"""The label with which Kubernetes and autoscalers name the kind of a node."""


@dataclass(frozen=True)
class Node:
    """A living node of a Ray cluster."""

    id: str
    host: str
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def signature(self) -> tuple[tuple[str, Any], ...]:
        """What nodes of one kind have in common, as far as Ray knows it."""
        named = {name: amount for name, amount in self.resources.items() if not _OF_ONE_NODE.match(name)}
        return (*sorted(named.items()), (GROUP, self.labels.get(GROUP, "")))


def living(known: Iterable[Mapping[str, Any]]) -> list[Node]:
    """Return the living nodes of what `ray.nodes()` returns."""
    return [
        Node(node["NodeID"], node.get("NodeManagerHostname", ""), node["Resources"], node.get("Labels") or {})
        for node in known
        if node["Alive"]
    ]


def room(cluster: Cluster, nodes: Iterable[Node]) -> int:
    """Count the trials that fit at once on the nodes, whatever `concurrency` says."""
    return sum(fit(cluster.resources, node.resources) for node in nodes)


def capacity(cluster: Cluster, nodes: Sequence[Node]) -> int:
    """Return how many trials run at once on these nodes.

    Raises:
        ClusterError: not even one fits, or fewer than `concurrency`.
    """
    fits = room(cluster, nodes)
    if not fits:
        raise ClusterError(
            f"no node has what one trial asks for ({asked(cluster)}); the nodes have: {offered(nodes) or 'none alive'}"
        )
    if cluster.concurrency and cluster.concurrency > fits:
        raise ClusterError(
            f"concurrency {cluster.concurrency} does not fit: of trials with {asked(cluster)} each, "
            f"{fits} run at once on: {offered(nodes)}"
        )
    return cluster.concurrency or fits


def asked(cluster: Cluster) -> str:
    """Return in words what a trial asks for."""
    amounts = [f"{amount:g} {name}" for name, amount in cluster.resources.items() if not name.startswith(ACCELERATOR)]
    kind = f" of type {cluster.accelerator}" if cluster.accelerator else ""
    return f"{', '.join(amounts)}{kind}"


def offered(nodes: Iterable[Node]) -> str:
    """Return in words what nodes have, equal ones once."""
    counts = Counter(_described(node.resources) for node in nodes)
    return "; ".join(text if count == 1 else f"{count} times {text}" for text, count in counts.items())


def _described(resources: Mapping[str, float]) -> str:
    amounts = ", ".join(f"{resources.get(name, 0):g} {name}" for name in ("CPU", "GPU"))
    types = [name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR)]
    return f"{amounts} of type {' and '.join(sorted(types))}" if types else amounts


def fit(ask: Mapping[str, float], node: Mapping[str, float]) -> int:
    """Count the trials that fit on a node; a fraction of a GPU cannot be put together from two GPUs."""
    fits = int(node.get("CPU", 0) // ask["CPU"])
    gpus = ask.get("GPU", 0)
    if gpus:
        per_gpu = int((1 + 1e-9) // gpus)
        available = int(node.get("GPU", 0))
        fits = min(fits, available * per_gpu if gpus <= 1 else int(available // gpus))
    for name, amount in ask.items():
        if name.startswith(ACCELERATOR):
            fits = min(fits, int((node.get(name, 0) + 1e-9) // amount))
    return fits
