"""Say in words where a RayJob is: its status, and what keeps its pods from running."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from search.cluster.carriers.base import Phase, State

_EXIT_CODE = re.compile(r"\bentrypoint command failed with exit code (-?[0-9]+)")
"""How Ray begins the message of a job whose command has failed."""
CANNOT_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
FINE = ("ContainerCreating", "PodInitializing")
LONGEST = 300

_PHASES: dict[str, Phase] = {
    "": "queued",
    "Initializing": "starting",
    "Waiting": "starting",
    "Running": "running",
    "Suspending": "queued",
    "Suspended": "queued",
    "Retrying": "starting",
}


def ended(job: Mapping[str, Any]) -> State | None:
    """Return how a RayJob has ended, None where it has not."""
    status = _status(job)
    deployed, message = status.get("jobDeploymentStatus", ""), str(status.get("message", ""))
    if deployed == "Complete":
        # Exit code 0 of the script on the head, which is not always that of the launch: the records tell.
        stopped = status.get("jobStatus") == "STOPPED"
        return State("lost", "somebody has stopped its Ray job") if stopped else State("ended")
    if deployed == "Failed" and (code := _EXIT_CODE.search(message)):
        return State("ended", tried(job), int(code[1]) if int(code[1]) >= 0 else 128 - int(code[1]))
    if deployed in ("Failed", "ValidationFailed"):
        reason = status.get("reason", deployed)
        return State("lost", ", ".join(filter(None, (f"{reason}: {_short(message)}", tried(job)))))
    return None


def going(job: Mapping[str, Any], problems: Iterable[str]) -> State:
    """Return where a RayJob that has not ended is; `problems` are those of its pods, the first is the reason."""
    status = _status(job)
    deployed = status.get("jobDeploymentStatus", "")
    problem = next(iter(problems), "")
    phase = _PHASES.get(deployed, "starting")
    if deployed == "Running" and status.get("jobStatus", "") in ("", "PENDING"):
        phase = "starting"
    if deployed == "Initializing" and "cannot be scheduled" in problem:
        phase = "queued"
    said = {
        "": "" if tried(job) else "KubeRay has not looked at it yet (does its operator run?)",
        "Suspending": "suspended",
        "Suspended": "suspended, as a queue such as Kueue does it",
        "Retrying": "its cluster was lost, and another one is started",
    }
    return State(phase, "; ".join(filter(None, (said.get(deployed, ""), problem, tried(job)))))


def tried(job: Mapping[str, Any]) -> str:
    """Return how many clusters were lost before; empty for none."""
    failed = int(_status(job).get("failed") or 0)
    return f"{failed} of {int(job['spec'].get('backoffLimit', 0)) + 1} clusters lost" if failed else ""


def warned(events: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what KubeRay warns of: pods that it may not create, because of a quota or of a policy."""
    for event in events:
        message = str(event.get("message", ""))
        if "exceeded quota" in message:
            yield f"the quota is exhausted: {_short(message)}"
        elif "forbidden" in message:
            yield f"a pod is forbidden: {_short(message)}"
        elif str(event.get("reason", "")).startswith(("Failed", "Invalid")):
            yield _short(message)


def troubles(pods: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what keeps pods from running, or has ended them."""
    for pod in pods:
        labels, status = pod["metadata"].get("labels", {}), pod.get("status", {})
        head = labels.get("ray.io/node-type") == "head"
        who = "the head" if head else f"a worker of {labels.get('ray.io/group', 'a group')}"
        for condition in status.get("conditions", ()):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                yield f"{who} cannot be scheduled: {_short(condition.get('message') or condition.get('reason', ''))}"
        for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            yield from _trouble(who, container, "head.memory" if head else "memory of its group")


def _trouble(who: str, container: Mapping[str, Any], memory: str) -> Iterator[str]:
    for state in (container.get("state", {}), container.get("lastState", {})):
        if state.get("terminated", {}).get("reason") == "OOMKilled":
            yield f"{who} needs more memory than its limit (OOMKilled); raise `{memory}`"
            return
    waiting = container.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", ""), _short(waiting.get("message", ""))
    if reason in CANNOT_PULL:
        yield f"the image {container.get('image', '')} of {who} cannot be pulled: {message or reason}"
    elif reason and reason not in FINE:
        yield f"{who} does not start: {reason}{': ' if message else ''}{message}"


def _status(job: Mapping[str, Any]) -> Mapping[str, Any]:
    status: Mapping[str, Any] = job.get("status") or {}
    return status


def _short(text: str) -> str:
    """Return the first line of a message, cut: Ray appends the end of the log to it."""
    return (text.strip().splitlines() or [""])[0][:LONGEST]
