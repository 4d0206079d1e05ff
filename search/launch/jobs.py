"""The job that carries a study to a cluster: its record, by which it is found again, its state, and its end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from search.cluster import spec as clusters
from search.cluster.base import ClusterError
from search.cluster.carriers.base import Carrier, Remote, State, Submission
from search.store import catalogue, driver_lock
from trainables.core.errors import RobustsearchError, SpecError, StorageError
from trainables.store import paths
from trainables.store.storage import Storage


@dataclass(frozen=True)
class Job:
    """A submitted job, as the storage has it: the carrier's `id`, and the fields of its `cluster` file.

    `submitted` is in Unix time.
    """

    id: str
    submitted: float
    cluster: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The kind of cluster that runs it."""
        return str(self.cluster.get("kind"))

    @classmethod
    def read(cls, study: Storage) -> Job | None:
        """Return the job that was submitted last for the study in `study`, None where there was none.

        Raises:
            StorageError: its record is damaged.
        """
        try:
            found = json.loads(study.read(paths.JOB))
            return cls(str(found["id"]), float(found["submitted"]), dict(found["cluster"]))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise StorageError(
                f"{study.location}/{paths.JOB} is damaged ({error}); delete it once its job has ended"
            ) from error

    def write(self, study: Storage) -> None:
        """Record the job, readable by its owner alone."""
        study.write(paths.JOB, (json.dumps(asdict(self), indent=1) + "\n").encode())
        if study.local is not None:
            os.chmod(study.local / paths.JOB, 0o600)

    def carrier(self, study: Storage) -> Carrier:
        """Return what knows the job's state, and can end it.

        Raises:
            ClusterError: its kind is not one that this version has.
        """
        try:
            cluster = clusters.resolve(self.cluster)
        except SpecError as error:
            raise ClusterError(f"the record of job {self.id} cannot be used: {error}") from error
        if not isinstance(cluster, Remote):
            raise ClusterError(f"the record of job {self.id} names the kind {self.kind}, which submits no jobs")
        return cluster.carrier(Submission(study.location.rpartition("/")[2], "", study.parent().location))

    def waited(self, state: State) -> str:
        """Say where the job is, and for how long it waits where it does: `queued in partition gpu, 00:12`."""
        if state.phase != "queued":
            return str(state)
        minutes = max(0, int(time.time() - self.submitted)) // 60
        return f"{state}, {minutes // 60:02d}:{minutes % 60:02d}"


def described(study: Storage) -> dict[str, Any] | None:
    """Return what `status` says of a study's job: `text` for a person; None where it has none.

    What cannot be asked from this machine is said instead of the state.
    """
    try:
        job = Job.read(study)
        if job is None:
            return None
        known = {"kind": job.kind, "id": job.id, "submitted": job.submitted}
    except StorageError as error:
        return {"kind": None, "id": None, "submitted": None, "state": None, "text": str(error)}
    try:
        state = job.carrier(study).state(job.id)
    except RobustsearchError as error:
        return {**known, "state": None, "text": f"job {job.id} ({job.kind}): its state is unknown here: {error}"}
    return {**known, "state": asdict(state), "text": f"job {job.id} ({job.kind}): {job.waited(state)}"}


def stop(study: Storage, name: str, *, now: bool = False) -> Mapping[str, Any]:
    """Ask the driver of a study to stop, and end its job where no driver would: one that waits, or any `now`.

    Raises:
        SpecError: `now`, and the study was not carried to a cluster.
        ClusterError: the job's cluster cannot be reached.
    """
    driver, job = driver_lock.driver(study), Job.read(study)
    if job is None and now:
        raise SpecError(f"{name} has no job to end now; leave out --now, which is for studies that ran on a cluster")
    said = []
    if driver is not None:
        driver_lock.request_stop(study)
        said.append(f"asked {driver} to stop {name}; running trials save their progress")
    ended = _end(study, job, driver is not None and not now) if job else None
    if ended:
        said.append(ended)
    message = "; ".join(said) or f"no launch of {name} is running"
    return {
        "study": name,
        "driver": str(driver) if driver else None,
        "job": job.id if job else None,
        "message": message,
    }


def _end(study: Storage, job: Job, driven: bool) -> str | None:
    """Cancel a job, unless it has ended or a driver that was asked to stop will end it; return what was done."""
    carrier = job.carrier(study)
    state = carrier.state(job.id)
    # The driver of a job that is queued again is that of a node which was lost.
    if state.over or (driven and state.phase != "queued"):
        return None
    carrier.cancel(job.id)
    return f"cancelled job {job.id} ({job.kind}), which was {job.waited(state)}"


def study_storage(root: Storage, name: str) -> Storage:
    """Return the directory of a study, which may be no more than a job that waits.

    Raises:
        SpecError: there is no such study.
    """
    found = root.child(catalogue.check_name(name))
    return found if found.exists(paths.JOB) else catalogue.study_storage(root, name)
