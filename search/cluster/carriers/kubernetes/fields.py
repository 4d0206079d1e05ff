"""The keys of a cluster file of kind `kubernetes`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from search.cluster.carriers.base import Remote
from trainables.core.spec import Spec, located

_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_MEMORY = re.compile(r"[1-9][0-9]*(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)")
_SECRET = re.compile(r"(key|token|secret|password|passwd|credential)s?$", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _memory(text: str) -> str:
    if not _MEMORY.fullmatch(text):
        raise ValueError(f"{text!r} is not an amount of memory with a unit, such as 8Gi or 500M")
    return text


def _label(text: str) -> str:
    if not _LABEL.fullmatch(text) or len(text) > 40:
        raise ValueError(f"{text!r} is not a name of Kubernetes: at most 40 of a-z, 0-9 and -, a letter first")
    return text


class Toleration(Spec):
    """A taint of nodes on which the pods of a group may run all the same."""

    key: str = Field(description="Key of the taint.")
    operator: Literal["Exists", "Equal"] = Field(default="Exists", description="`Equal` compares the value too.")
    value: str | None = Field(default=None, description="Value of the taint, with the operator `Equal`.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; null is any."
    )


class Head(Spec):
    """The pod of Ray's head and of the launch. It runs no trials and stays off spot nodes."""

    cpus: int = Field(default=2, gt=0, description="Cores of the head.")
    memory: str = Field(default="8Gi", description="Memory of the head, which is also its limit.")
    node_selector: dict[str, str] = Field(default={}, description="Labels that its node must have.")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Taints that its node may have.")

    _check_memory = field_validator("memory")(_memory)


class WorkerGroup(Spec):
    """Pods of one kind, each a node of Ray, on which trials run."""

    name: str = Field(default="workers", description="Name of the group.")
    cpus: int = Field(gt=0, description="Cores of a pod.")
    memory: str = Field(description="Memory of a pod, which is also its limit.")
    gpus: int = Field(default=0, ge=0, description="GPUs, or MIG slices, of a pod.")
    gpu_resource: str = Field(
        default="nvidia.com/gpu",
        description="Kubernetes' name of a GPU: `nvidia.com/gpu`, or a MIG slice such as `nvidia.com/mig-1g.10gb`.",
    )
    accelerator: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="Ray's name of these GPUs, such as A100; needed where trials ask for the cluster's `accelerator`.",
    )
    min: int = Field(default=0, ge=0, description="How many pods are always there.")
    max: int = Field(gt=0, description="How many pods there may be; those above `min` come and go with the trials.")
    spot: bool = Field(default=False, description="Whether pods may run on spot nodes, which they then prefer.")
    node_selector: dict[str, str] = Field(default={}, description="Labels that their nodes must have.")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Taints that their nodes may have.")

    _check_name = field_validator("name")(_label)
    _check_memory = field_validator("memory")(_memory)

    @model_validator(mode="after")
    def _ordered(self) -> WorkerGroup:
        if self.min > self.max:
            raise located(f"min {self.min} is above max {self.max}", "min", value=self.min)
        return self

    def trials(self, cpus: int, gpus: float) -> int:
        """Return how many trials that ask for this much fit on one pod."""
        fits = self.cpus // cpus
        if not gpus:
            return fits
        return min(fits, int(self.gpus // gpus) if gpus > 1 else self.gpus * int((1 + 1e-9) // gpus))


class Volume(Spec):
    """A volume that is there already, mounted into all pods."""

    claim: str = Field(description="Name of a PersistentVolumeClaim in the namespace.")
    mount_path: str = Field(description="Absolute path under which the pods see it.")
    read_only: bool = Field(default=False, description="Mount it read-only, as for data sets.")

    @field_validator("mount_path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        if not path.startswith("/") or path.rstrip("/") in ("", "/tmp", "/etc/robustsearch") or ":" in path:
            raise ValueError(f"{path!r} is not an absolute path of a folder of its own, such as /data")
        return path.rstrip("/")


class Settings(Remote):
    """The keys of the kind, without what submits."""

    image: str = Field(
        description="Image with robustsearch and Ray in the versions of this machine; see clusters/Containerfile."
    )
    workers: tuple[WorkerGroup, ...] = Field(description="Groups of pods on which trials run.")
    context: str | None = Field(
        default=None, description="Context of the kubeconfig; null is its current one, or the pod's own account."
    )
    namespace: str = Field(default="default", description="Namespace of everything that is created.")
    head: Head = Field(default=Head(), description="The pod of Ray's head and of the launch.")
    retries: int = Field(
        default=3,
        ge=0,
        description="How many clusters may be lost; another one resumes the study.",
    )
    service_account: str | None = Field(
        default=None, description="Service account of the pods, by which they may reach an object store."
    )
    image_pull_secrets: tuple[str, ...] = Field(default=(), description="Secrets with credentials of the registry.")
    env: dict[str, str] = Field(default={}, description="Environment variables of all pods; no keys.")
    env_from_secret: str | None = Field(
        default=None, description="Secret whose entries become environment variables, as for keys of an object store."
    )
    volumes: tuple[Volume, ...] = Field(default=(), description="Volumes mounted into all pods.")
    ray_version: str | None = Field(default=None, description="Version of Ray in the image; null is the one here.")
    overlay: str | None = Field(
        default=None, description="YAML file that is merged into the RayJob, for all that has no key here."
    )

    @field_validator("image")
    @classmethod
    def _reference(cls, image: str) -> str:
        if not image or re.search(r"\s", image):
            raise ValueError(f"{image!r} is not a reference to an image, such as registry/robustsearch:1.0")
        return image

    @field_validator("workers")
    @classmethod
    def _groups(cls, groups: tuple[WorkerGroup, ...]) -> tuple[WorkerGroup, ...]:
        names = [group.name for group in groups]
        if not names:
            raise ValueError("at least one group of workers is required: the head runs no trials")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two groups have the name {twice[0]}; give each a `name` of its own")
        return groups

    @field_validator("env")
    @classmethod
    def _no_keys(cls, env: dict[str, str]) -> dict[str, str]:
        for name in env:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} is not a name of an environment variable")
            if _SECRET.search(name):
                raise ValueError(f"{name} looks like a key; put it into a Secret, and name that in `env_from_secret`")
        return env

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        if not any(self.trials_on(group) for group in self.workers):
            gpus = f", {self.gpus_per_trial:g} GPUs" if self.gpus_per_trial else ""
            kind = f" of type {self.accelerator}" if self.accelerator else ""
            message = f"no group has room for one trial ({self.cpus_per_trial} CPUs{gpus}{kind})"
            raise located(message, "workers", value=None)
        return self

    def trials_on(self, group: WorkerGroup) -> int:
        """Return how many trials fit on one pod of a group."""
        if self.accelerator not in (None, group.accelerator):
            return 0
        return group.trials(self.cpus_per_trial, self.gpus_per_trial)

    @property
    def autoscaling(self) -> bool:
        """Whether the number of pods may change."""
        return any(group.min < group.max for group in self.workers)

    def mounted(self, directory: str) -> bool:
        """Return whether a directory lies on one of the volumes, and can be written there."""
        path = Path(directory)
        return any(path.is_relative_to(volume.mount_path) for volume in self.volumes if not volume.read_only)
