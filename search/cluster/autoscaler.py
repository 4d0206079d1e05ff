"""Ask the autoscaler of a Ray cluster for nodes, and whether it has a type of node for what was asked."""

from __future__ import annotations

import itertools
from typing import Any

from search.cluster.base import ClusterError

RPC_SECONDS = 10.0
READ_AGAIN_SECONDS = 10.0
"""How often the nodes of a cluster that grows and shrinks are counted again."""


def request(trial: dict[str, float], count: int) -> None:
    """Ask for nodes on which `count` trials with these resources fit at once, until the next request; 0 asks for none.

    Raises:
        ClusterError: the cluster does not take the request.
    """
    import ray
    from ray.autoscaler.sdk import request_resources

    try:
        request_resources(bundles=list(itertools.repeat(trial, count)))
    except (ray.exceptions.RayError, RuntimeError, OSError) as error:
        raise ClusterError(f"the cluster does not take a request for nodes: {error}") from error


class Refusals:
    """Whether the autoscaler says, of what is asked for after this object was made, that no type of node has it."""

    def __init__(self) -> None:
        status = _status()
        self._before = status.cluster_resource_state.cluster_resource_state_version if status is not None else None

    def found(self) -> bool:
        """Return whether it does; only version 2 of Ray's autoscaler says so, a few seconds after a request."""
        status = _status() if self._before is not None else None
        if status is None:
            return False
        said = status.autoscaling_state
        looked = said.last_seen_cluster_resource_state_version > self._before
        return looked and len(said.infeasible_cluster_resource_constraints) > 0


def _status() -> Any:
    """Return the resources of the cluster and what its autoscaler has said last, None where that cannot be known."""
    import ray
    from ray import _raylet
    from ray.core.generated import autoscaler_pb2

    native: Any = _raylet
    messages: Any = autoscaler_pb2
    reply = messages.GetClusterStatusReply()
    try:
        client = native.GcsClient(address=ray.get_runtime_context().gcs_address)
        reply.ParseFromString(client.get_cluster_status(timeout_s=RPC_SECONDS))
    except (ray.exceptions.RayError, RuntimeError, OSError):
        return None
    return reply
