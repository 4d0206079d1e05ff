"""The part of KubeRay's RayJob that is used, written down here; and its whole schemas, where somebody has them."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

SCHEMAS = Path(os.environ.get("KUBERAY_SCHEMAS") or Path(__file__).parents[6] / "shared/kuberay")
RELEASES = ("1.5.2", "1.6.2", "1.7.0")

TEXTS = {"*": "string"}
_EXPRESSIONS = [{"key": "string", "operator": "string", "values": ["string"]}]
_TERM = {"matchExpressions": _EXPRESSIONS}
_RESOURCES = {"limits": {"*": "quantity"}, "requests": {"*": "quantity"}}
_RAISED = {"allowPrivilegeEscalation": "boolean", "capabilities": {"drop": ["string"]}}
_CONTAINER = {
    "name": "string",
    "image": "string",
    "env": [{"name": "string", "value": "string"}],
    "envFrom": [{"secretRef": {"name": "string"}}],
    "lifecycle": {"preStop": {"exec": {"command": ["string"]}}},
    "resources": _RESOURCES,
    "securityContext": {**_RAISED, "readOnlyRootFilesystem": "boolean"},
    "volumeMounts": [{"name": "string", "mountPath": "string", "readOnly": "boolean"}],
}
_POD = {
    "affinity": {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": "integer", "preference": _TERM}],
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_TERM]},
        }
    },
    "automountServiceAccountToken": "boolean",
    "containers": [_CONTAINER],
    "imagePullSecrets": [{"name": "string"}],
    "nodeSelector": TEXTS,
    "restartPolicy": "string",
    "securityContext": {
        "fsGroup": "integer",
        "runAsGroup": "integer",
        "runAsNonRoot": "boolean",
        "runAsUser": "integer",
        "seccompProfile": {"type": "string"},
    },
    "serviceAccountName": "string",
    "terminationGracePeriodSeconds": "integer",
    "tolerations": [{"key": "string", "operator": "string", "value": "string", "effect": "string"}],
    "volumes": [
        {
            "name": "string",
            "configMap": {"name": "string"},
            "emptyDir": {},
            "persistentVolumeClaim": {"claimName": "string"},
        }
    ],
}
_TEMPLATE = {"metadata": "any", "spec": _POD}
_GROUP = {
    "groupName": "string",
    "maxReplicas": "integer",
    "minReplicas": "integer",
    "replicas": "integer",
    "rayStartParams": TEXTS,
    "template": _TEMPLATE,
}
_OPTIONS = {"idleTimeoutSeconds": "integer", "resources": _RESOURCES, "securityContext": _RAISED, "version": "string"}
RAY_JOB: dict[str, Any] = {
    "apiVersion": "string",
    "kind": "string",
    "metadata": "any",
    "spec": {
        "backoffLimit": "integer",
        "entrypoint": "string",
        "preRunningDeadlineSeconds": "integer",
        "rayClusterSpec": {
            "authOptions": {"mode": "string"},
            "autoscalerOptions": _OPTIONS,
            "enableInTreeAutoscaling": "boolean",
            "headGroupSpec": {"rayStartParams": TEXTS, "template": _TEMPLATE},
            "rayVersion": "string",
            "workerGroupSpecs": [_GROUP],
        },
        "shutdownAfterJobFinishes": "boolean",
        "submissionMode": "string",
        "ttlSecondsAfterFinished": "integer",
    },
}
"""Names and types of what a manifest may have, as KubeRay 1.6 has them."""


def checker(schema: dict[str, Any]) -> Any:
    """Return what finds the errors of a manifest: unknown keys too. The schema itself is not checked, which is slow."""
    return jsonschema.Draft202012Validator(strict(schema))


def used(release: str = "1.6") -> dict[str, Any]:
    """Return the part that is used as a JSON schema; 1.4 has no `authOptions`, 1.5 no `preRunningDeadlineSeconds`."""
    schema = _schema(RAY_JOB)
    spec = schema["properties"]["spec"]["properties"]
    if release < "1.6":
        del spec["preRunningDeadlineSeconds"]
    if release < "1.5":
        del spec["rayClusterSpec"]["properties"]["authOptions"]
    return schema


def _schema(written: Any) -> dict[str, Any]:
    if isinstance(written, list):
        return {"type": "array", "items": _schema(written[0])}
    if isinstance(written, dict) and "*" in written:
        return {"type": "object", "additionalProperties": _schema(written["*"])}
    if isinstance(written, dict):
        return {"type": "object", "properties": {key: _schema(value) for key, value in written.items()}}
    if written == "quantity":
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    return {} if written == "any" else {"type": written}


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that refuses unknown keys, as Kubernetes does when it is asked to."""
    closed: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            closed[key] = {name: strict(part) for name, part in value.items()}
        else:
            closed[key] = (
                strict(value) if key in ("items", "additionalProperties") and isinstance(value, dict) else value
            )
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


@cache
def released(release: str) -> dict[str, Any]:
    """Return the whole schema of a release."""
    schema: dict[str, Any] = json.loads((SCHEMAS / f"rayjob-v{release}.schema.json").read_text())
    return schema
