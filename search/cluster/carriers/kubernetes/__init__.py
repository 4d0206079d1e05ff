"""Kubernetes: a study as a RayJob of KubeRay, on a Ray cluster of its own."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from search.cluster.carriers.base import Carrier, Submission
from search.cluster.carriers.kubernetes.carrier import KubernetesCarrier
from search.cluster.carriers.kubernetes.fields import Settings
from trainables.core.errors import SpecError


class Kubernetes(Settings):
    """Run trials in pods: KubeRay starts a Ray cluster for the study, and ends it after the launch."""

    kind: Literal["kubernetes"] = "kubernetes"
    shares_directories: ClassVar[bool] = False

    def where(self) -> str:
        context = f" of {self.context}" if self.context else ""
        return f"namespace {self.namespace}{context} on Kubernetes"

    def opening(self) -> str:
        return f"submitting to {self.where()} ..."

    def check_storage(self, location: str | None) -> None:
        place = (location or "").removeprefix("file://")
        if place and "://" not in place and not self.mounted(place):
            raise SpecError(
                f"the storage {place} is a directory that the pods do not have: name an object store, such as "
                "s3://bucket/robustsearch, or a directory below the `mount_path` of one of the cluster file's `volumes`"
            )
        if not place:
            super().check_storage(location)

    def carrier(self, submission: Submission) -> Carrier:
        return KubernetesCarrier(self, submission)

    def recorded(self) -> dict[str, Any]:
        """Return the fields by which the job is found again; the file of an overlay may be gone by then."""
        return super().recorded() | {"overlay": None}
