"""The manifest of a study: a ConfigMap with its files, and a RayJob of KubeRay. Pure: what is given decides it.

KubeRay makes a Ray cluster of it, whose head pod runs Ray, the autoscaler, and a container that submits the launch as a
Ray job (SidecarMode: no pod of its own, and no traffic between pods). It makes the token of each cluster too
(`authOptions`), so that none is ever in a file of ours.
"""

from __future__ import annotations

import json
import re
import shlex
from importlib import metadata
from typing import Any

from search.cluster.carriers.base import WAIT_SECONDS, Submission
from search.cluster.carriers.kubernetes.fields import Settings, Toleration, WorkerGroup
from trainables.core.errors import ExitCode

GROUP, VERSION, PLURAL = "ray.io", "v1", "rayjobs"
LONGEST_NAME = 47
"""KubeRay's limit: it makes the names of clusters, pods and services from that of the job."""
STUDY_LABEL, IDENTITY_LABEL = "robustsearch/study", "robustsearch/identity"
FOLDER, HOME = "/etc/robustsearch", "/home/robustsearch"
"""Where the head has the files of the submission, and the home of the user in all pods."""
STUDY_FILE, CLUSTER_FILE, SCRIPT = "study.yaml", "cluster.yaml", "launch.sh"
USER = 1000
GRACE_SECONDS = 90
"""How long a pod that must go may take: trials save, and so does the launch on the head."""
SAVE = (
    'for p in /proc/[0-9]*; do case "$(tr "\\0" " " < "$p/cmdline" 2>/dev/null)" in '
    'ray::*Agent*) ;; ray::*) kill -TERM "${p#/proc/}" ;; esac; done; sleep 8'
)
"""Tell the trials of a pod that it must go: Kubernetes signals the first process alone, which is Ray's.

Ray's agents are called `ray::...Agent`; without them its node would end at once, and the trials with it.
"""
STOP_SECONDS = 60
"""How long KubeRay's request to end the launch waits before it kills it."""
KEPT_SECONDS = 60
"""How long a cluster stays after its launch has ended: its log can be read until then."""
IDLE_SECONDS = 120
"""After this time without a trial the autoscaler ends a pod."""
OBJECT_STORE = str(256 * 1024**2)
"""Trials exchange nothing but small results; Ray's default would take a third of the memory."""

SPOT = {
    "cloud.google.com/gke-spot": "true",
    "eks.amazonaws.com/capacityType": "SPOT",
    "karpenter.sh/capacity-type": "spot",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
"""The labels of spot nodes on GKE, EKS, with Karpenter, and on AKS; GKE and AKS taint them likewise."""
SPOT_TAINTS = ("cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority")

FINAL = (ExitCode.BAD_INPUT, ExitCode.NO_FEASIBLE_POINT, ExitCode.TRIALS_FAILED, ExitCode.INTERRUPTED)
"""Codes after which the same launch would end alike, or was asked to end: no other cluster is started for it."""


def job_name(submission: Submission) -> str:
    """Return the name of the objects of a study, a DNS label: studies of one name in two storages get two."""
    room = LONGEST_NAME - len(submission.identity) - 1
    plain = re.sub("[^a-z0-9-]+", "-", submission.name.lower())[:room].strip("-")
    return f"{plain}-{submission.identity}"


def labels(submission: Submission) -> dict[str, str]:
    """Return the labels by which the objects of a study are found."""
    return {
        "app.kubernetes.io/managed-by": "robustsearch",
        STUDY_LABEL: submission.study[:63].strip("-_."),
        IDENTITY_LABEL: submission.identity,
    }


def config_map(settings: Settings, submission: Submission) -> dict[str, Any]:
    """Return the ConfigMap with the files that the head is given."""
    files = {
        STUDY_FILE: submission.study_yaml,
        CLUSTER_FILE: inner(settings, submission),
        SCRIPT: script(submission),
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _named(settings, submission), "data": files}


def inner(settings: Settings, submission: Submission) -> str:
    """Return the cluster file of the launch on the head; KubeRay gives it the token in its environment."""
    if not settings.autoscaling:
        pods = sum(group.max for group in settings.workers)
        return settings.inner(submission, nodes=settings.nodes or pods + 1)
    most = sum(group.max * settings.trials_on(group) for group in settings.workers)
    fixed = {"concurrency": None} if settings.concurrency else {}
    return settings.inner(submission, max_concurrency=settings.max_concurrency or settings.concurrency or most, **fixed)


def script(submission: Submission) -> str:
    """Return what the head runs: the launch, and which of its exit codes KubeRay may answer with another cluster."""
    words = [
        *("robustsearch", "launch", f"{FOLDER}/{STUDY_FILE}", "--cluster", f"{FOLDER}/{CLUSTER_FILE}"),
        *("--wait", str(WAIT_SECONDS), *submission.words),
    ]
    final = "|".join(str(int(code)) for code in FINAL)
    return (
        "#!/bin/bash\n"
        f"{shlex.join(words)}\n"
        "code=$?\n"
        "# KubeRay starts another cluster after any code but 0. After these that would not help, or is not wanted.\n"
        f'case $code in {final}) echo "exit code $code: not tried again"; exit 0 ;; esac\n'
        "exit $code\n"
    )


def ray_job(settings: Settings, submission: Submission) -> dict[str, Any]:
    """Return the RayJob, without the overlay."""
    spec = {
        "submissionMode": "SidecarMode",
        "entrypoint": f"bash {FOLDER}/{SCRIPT}",
        "backoffLimit": settings.retries,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "rayClusterSpec": _ray_cluster(settings, submission),
    }
    named = _named(settings, submission)
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "RayJob", "metadata": named, "spec": spec}


def _named(settings: Settings, submission: Submission) -> dict[str, Any]:
    return {"name": job_name(submission), "namespace": settings.namespace, "labels": labels(submission)}


def _ray_cluster(settings: Settings, submission: Submission) -> dict[str, Any]:
    return {
        "rayVersion": settings.ray_version or metadata.version("ray"),
        "authOptions": {"mode": "token"},
        **_autoscaler(settings),
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "num-gpus": "0", "object-store-memory": OBJECT_STORE},
            "template": _head(settings, submission),
        },
        "workerGroupSpecs": [_group(settings, submission, group) for group in settings.workers],
    }


def _autoscaler(settings: Settings) -> dict[str, Any]:
    if not settings.autoscaling:
        return {"enableInTreeAutoscaling": False}
    options = {
        "version": "v2",
        "idleTimeoutSeconds": IDLE_SECONDS,
        "resources": _resources("500m", "1Gi"),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {"enableInTreeAutoscaling": True, "autoscalerOptions": options}


def _head(settings: Settings, submission: Submission) -> dict[str, Any]:
    head = settings.head
    container = _container(settings, "ray-head", _resources(str(head.cpus), head.memory))
    container["env"].append({"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(STOP_SECONDS)})
    container["volumeMounts"].append({"name": "submission", "mountPath": FOLDER, "readOnly": True})
    files = {"name": "submission", "configMap": {"name": job_name(submission)}}
    spec = {
        **_pod(settings, container, head.node_selector, [_plain(toleration) for toleration in head.tolerations]),
        # Only the autoscaler on the head talks to Kubernetes.
        "automountServiceAccountToken": settings.autoscaling,
        "affinity": _never_spot(),
    }
    spec["volumes"].append(files)
    return {"metadata": {"labels": labels(submission)}, "spec": spec}


def _group(settings: Settings, submission: Submission, group: WorkerGroup) -> dict[str, Any]:
    resources = _resources(str(group.cpus), group.memory, {group.gpu_resource: group.gpus} if group.gpus else {})
    tolerations = [_plain(toleration) for toleration in group.tolerations]
    if group.gpus:
        tolerations.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    if group.spot:
        tolerations += [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in SPOT_TAINTS]
    container = _container(settings, "ray-worker", resources)
    container["lifecycle"] = {"preStop": {"exec": {"command": ["bash", "-c", SAVE]}}}
    spec = {
        **_pod(settings, container, group.node_selector, tolerations),
        "automountServiceAccountToken": False,
        "affinity": _rather_spot() if group.spot else _never_spot(),
    }
    # A MIG slice is no `gpu` to KubeRay and to the autoscaler; said here, both count it.
    params = {"num-cpus": str(group.cpus), "num-gpus": str(group.gpus), "object-store-memory": OBJECT_STORE}
    if group.accelerator:  # Ray's nodes find it out themselves; the autoscaler has to know before there is one.
        params["resources"] = f"""'{json.dumps({f"accelerator_type:{group.accelerator}": 1})}'"""
    return {
        "groupName": group.name,
        "replicas": group.min,
        "minReplicas": group.min,
        "maxReplicas": group.max,
        "rayStartParams": params,
        "template": {"metadata": {"labels": labels(submission)}, "spec": spec},
    }


def _pod(
    settings: Settings, container: dict[str, Any], node_selector: dict[str, str], tolerations: list[dict[str, str]]
) -> dict[str, Any]:
    """Return what the pods of head and workers share."""
    volumes: list[dict[str, Any]] = [
        *({"name": name, "emptyDir": {}} for name in ("tmp", "home")),
        *(
            {"name": f"volume-{index}", "persistentVolumeClaim": {"claimName": volume.claim}}
            for index, volume in enumerate(settings.volumes)
        ),
    ]
    optional = {
        "serviceAccountName": settings.service_account,
        "imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets],
        "nodeSelector": dict(node_selector),
        "tolerations": tolerations,
    }
    return {
        "containers": [container],
        "volumes": volumes,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            **dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), USER),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **{key: value for key, value in optional.items() if value},
    }


def _container(settings: Settings, name: str, resources: dict[str, Any]) -> dict[str, Any]:
    """Return Ray's container: not root, no way to become it, and a root file system that is read-only."""
    env = {"HOME": HOME, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONSAFEPATH": "1", **settings.env}
    mounts = [
        {"name": f"volume-{index}", "mountPath": volume.mount_path, "readOnly": volume.read_only}
        for index, volume in enumerate(settings.volumes)
    ]
    secret = {"envFrom": [{"secretRef": {"name": settings.env_from_secret}}]} if settings.env_from_secret else {}
    return {
        "name": name,
        "image": settings.image,
        "resources": resources,
        "env": [{"name": key, "value": value} for key, value in env.items()],
        **secret,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "home", "mountPath": HOME}, *mounts],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _resources(cpus: str, memory: str, gpus: dict[str, int] | None = None) -> dict[str, Any]:
    """Ask for what is the limit: a pod that may take more is the first to be killed where memory runs out."""
    amounts: dict[str, Any] = {"cpu": cpus, "memory": memory, **(gpus or {})}
    return {"requests": amounts, "limits": dict(amounts)}


def _plain(toleration: Toleration) -> dict[str, str]:
    plain: dict[str, str] = toleration.model_dump(exclude_none=True)
    return plain


def _never_spot() -> dict[str, Any]:
    terms = [{"key": key, "operator": "NotIn", "values": [value]} for key, value in SPOT.items()]
    required = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _rather_spot() -> dict[str, Any]:
    terms = [{"key": key, "operator": "In", "values": [value]} for key, value in SPOT.items()]
    preferred = [{"weight": 100, "preference": {"matchExpressions": [term]}} for term in terms]
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
