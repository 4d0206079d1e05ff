"""Cluster files of kind `kubernetes`, and a submission, for the tests."""

from __future__ import annotations

from typing import Any

from search.cluster.carriers.base import Submission
from search.cluster.carriers.kubernetes import Kubernetes

SUBMISSION = Submission(
    study="my_study",
    study_yaml="name: my_study\ntrials: 4\n",
    storage="s3://bucket/studies",
    storage_options={"region": "eu-central-1"},
    words=("--allow-change",),
)

SMALL: dict[str, Any] = {
    "kind": "kubernetes",
    "image": "registry.example/robustsearch:1.0",
    "ray_version": "2.60.0",
    "workers": [{"cpus": 4, "memory": "8Gi", "min": 2, "max": 2}],
}
"""Two pods without GPUs, whose number is fixed."""

LARGE: dict[str, Any] = {
    **SMALL,
    "context": "research",
    "namespace": "research",
    "service_account": "robustsearch",
    "image_pull_secrets": ["registry"],
    "env": {"ROBUSTSEARCH_DATA": "/data"},
    "env_from_secret": "bucket-keys",
    "volumes": [
        {"claim": "datasets.v2", "mount_path": "/data", "read_only": True},
        {"claim": "shared", "mount_path": "/shared"},
    ],
    "head": {"cpus": 4, "memory": "16Gi", "node_selector": {"pool": "on-demand"}},
    "workers": [
        {
            "name": "a100",
            "cpus": 16,
            "memory": "64Gi",
            "gpus": 2,
            "accelerator": "A100",
            "max": 8,
            "spot": True,
            "node_selector": {"gpu": "a100"},
            "tolerations": [{"key": "team", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}],
        },
        {"name": "mig", "cpus": 4, "memory": "16Gi", "gpus": 3, "gpu_resource": "nvidia.com/mig-1g.10gb", "max": 4},
    ],
    "cpus_per_trial": 2,
    "gpus_per_trial": 0.5,
    "retries": 5,
}
"""Two groups that grow: whole GPUs on spot nodes, and MIG slices."""


def kubernetes(**fields: Any) -> Kubernetes:
    """Return the small cluster with other fields."""
    return Kubernetes.model_validate({**SMALL, **fields})
