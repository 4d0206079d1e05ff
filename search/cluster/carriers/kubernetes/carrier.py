"""Submit a study to KubeRay, follow it, and end it."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from search.cluster.base import ClusterError
from search.cluster.carriers.base import Carrier, State, Submission
from search.cluster.carriers.kubernetes import manifest, overlay, render, words
from search.cluster.carriers.kubernetes.api import CONFLICT, Api, Refused
from search.cluster.carriers.kubernetes.fields import Settings
from search.files.findings import Finding

GONE_SECONDS = 120.0
"""How long a job of an earlier launch, which has ended, may take to be deleted: its pods go first."""
LOOK_SECONDS = 1.0
RIGHTS = (
    *((verb, manifest.GROUP, manifest.PLURAL) for verb in ("create", "get", "delete")),
    *((verb, "", "configmaps") for verb in ("create", "update", "patch")),
    *(("list", "", kind) for kind in ("pods", "events")),
    ("get", "", "pods/log"),
)
"""What the kind does in its namespace: verb, API group, resource."""
TOO_OLD = (
    "KubeRay is too old here: its RayJob has no `rayClusterSpec.authOptions`, without which anybody in the cluster "
    "could run code as you. Update KubeRay and its custom resource definitions to 1.5.1 or later"
)
SUBMITTER = "ray-job-submitter"
"""KubeRay's name of the container that submits the launch and prints its log."""


class KubernetesCarrier(Carrier):
    """One study as a RayJob."""

    def __init__(self, settings: Settings, submission: Submission) -> None:
        """Start nothing."""
        self._settings = settings
        self._submission = submission
        self._name = manifest.job_name(submission)
        self._api = Api(settings.context, settings.namespace)

    @cached_property
    def _ray_job(self) -> dict[str, Any]:
        """The RayJob, with the overlay.

        Raises:
            SpecError: the overlay is wrong.
        """
        made = manifest.ray_job(self._settings, self._submission)
        return overlay.load(self._settings.overlay, made) if self._settings.overlay else made

    @cached_property
    def _config_map(self) -> dict[str, Any]:
        return manifest.config_map(self._settings, self._submission)

    def files(self) -> dict[str, str]:
        return {f"{self._name}.yaml": render.dump([self._config_map, self._ray_job])}

    def checks(self) -> Iterator[Finding]:
        yield from self._image()
        try:
            yield Finding("ok", "kubernetes", f"{self._api.host}, {self._api.version()}")
            yield (kuberay := self._kuberay())
            if kuberay.level == "fail":
                return
            yield self._rights()
            self._try()
            yield Finding("ok", "dry run", "the server would take the ConfigMap and the RayJob")
        except ClusterError as error:
            yield Finding("fail", "kubernetes", str(error))

    def submit(self) -> str:
        while (found := self._api.job(self._name)) is not None:
            if not self._over(found):
                return self._name
            self._clear()
        if (kuberay := self._kuberay()).level == "fail":
            raise ClusterError(kuberay.message)
        self._try()
        self._api.put_config_map(self._config_map)
        try:
            made = self._api.create_job(self._timed())
        except Refused as error:
            if error.status == CONFLICT:  # Somebody else was faster.
                return self._name
            raise
        self._api.own_config_map(self._name, made)
        return self._name

    def state(self, job: str) -> State:
        found = self._api.job(job)
        if found is None:
            return State("lost", f"there is no RayJob {job} in namespace {self._api.namespace}")
        if found["metadata"].get("deletionTimestamp"):
            return State("running", "its RayJob is being deleted")
        return words.ended(found) or words.going(found, self._problems(found))

    def log(self, job: str) -> Iterator[str]:
        found = self._api.job(job)
        cluster = (found or {}).get("status", {}).get("rayClusterName")
        pods = self._api.pods(cluster) if cluster else []
        if not pods:
            raise ClusterError(f"no pod of {job} is left, and its log went with it; a log collector may have kept it")
        yield from self._api.log(pods[0]["metadata"]["name"], SUBMITTER)

    def cancel(self, job: str) -> None:
        self._api.delete_job(job)

    def _image(self) -> Iterator[Finding]:
        image = self._settings.image
        if ("@" not in image and ":" not in image.rpartition("/")[2]) or image.endswith(":latest"):
            yield Finding("warn", "image", f"{image} has no fixed tag: a later cluster may run another version")

    def _kuberay(self) -> Finding:
        """Return whether KubeRay is there, and new enough."""
        if manifest.PLURAL not in self._api.ray_kinds():
            missing = "KubeRay is not installed: the server knows no RayJob (the manual, `On Kubernetes`, says how)"
            return Finding("fail", "kuberay", missing)
        schema = self._api.ray_job_schema()
        if schema is None:
            return Finding("warn", "kuberay", "the server shows no schema of RayJob, so its version is not known")
        if not _has(schema, "spec", "rayClusterSpec", "authOptions"):
            return Finding("fail", "kuberay", TOO_OLD)
        return Finding("ok", "kuberay", "its RayJob has all that is used")

    def _rights(self) -> Finding:
        missing = [
            f"{verb} {resource}{f'.{group}' if group else ''}"
            for verb, group, resource in RIGHTS
            if not self._api.allowed(verb, group, resource)
        ]
        where = f"in namespace {self._api.namespace}"
        if missing:
            return Finding("fail", "rights", f"this account may not {', '.join(missing)} {where}")
        return Finding("ok", "rights", f"this account may do all that is needed {where}")

    def _try(self) -> None:
        """Let the server check everything and make nothing."""
        self._api.put_config_map(self._config_map, dry=True)
        try:
            self._api.create_job(self._timed(), dry=True)
        except Refused as error:
            if error.status != CONFLICT:
                raise

    def _timed(self) -> dict[str, Any]:
        """Return the RayJob, with a limit to the time before it runs where KubeRay knows one."""
        schema = self._api.ray_job_schema()
        if schema is None or not _has(schema, "spec", "preRunningDeadlineSeconds"):
            return self._ray_job
        timed = copy.deepcopy(self._ray_job)
        timed["spec"].setdefault("preRunningDeadlineSeconds", int(self._settings.start_timeout))
        return timed

    def _over(self, job: Mapping[str, Any]) -> bool:
        deleted = bool(job["metadata"].get("deletionTimestamp"))
        return deleted or words.ended(job) is not None

    def _clear(self) -> None:
        """Delete a job that has ended, so that another one takes its name.

        Raises:
            ClusterError: it does not go.
        """
        self._api.delete_job(self._name)
        until = time.monotonic() + GONE_SECONDS
        while self._api.job(self._name) is not None:
            if time.monotonic() > until:
                gone = f"RayJob {self._name}, which has ended, is not deleted after {GONE_SECONDS:.0f} s"
                raise ClusterError(f"{gone}; does KubeRay's operator run?")
            time.sleep(LOOK_SECONDS)

    def _problems(self, job: Mapping[str, Any]) -> Iterator[str]:
        """Yield what keeps the pods of a job from running; what this account may not see is left out."""
        cluster = job.get("status", {}).get("rayClusterName")
        try:
            pods = self._api.pods(cluster) if cluster else []
            yield from words.troubles(pods)
            if not any(pod.get("status", {}).get("phase") == "Running" for pod in pods):
                for name in filter(None, (cluster, self._name)):
                    yield from reversed(list(words.warned(self._api.warnings(name))))
        except Refused as error:
            yield str(error)


def _has(schema: Mapping[str, Any], *keys: str) -> bool:
    inside: Any = schema
    for key in keys:
        inside = inside.get("properties", {}).get(key) or {}
    return bool(inside)
