"""What brings a launch to a cluster as a job: Slurm, Kubernetes, Ray's own jobs.

A carrier starts `robustsearch launch STUDY --cluster INNER` (kind `address`) on the head of a Ray cluster. What the
search finds is in the records of the storage, and nowhere else: nobody reads a job's log to learn its state.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from search.cluster.base import Cluster, ClusterError, Connection
from search.files.findings import Finding
from search.files.yaml import dump_yaml
from trainables.core.errors import SpecError

Phase = Literal["queued", "starting", "running", "ended", "lost"]

WAIT_SECONDS = 120
"""How long the launch in a job waits for the lease of one that a node took with it, and for nodes."""


@dataclass(frozen=True)
class Submission:
    """What a carrier brings to the head, as plain data.

    `study` is the study's name, `study_yaml` its file with all overrides applied. `storage` is the storage root: a URI,
    or a directory that all nodes share; `storage_options` never hold keys. `words` are further words of the launch in
    the job, such as `--allow-change`. `code` are files and folders with plug-ins, where the kind sends them.
    """

    study: str
    study_yaml: str
    storage: str
    storage_options: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    code: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The job's name; each carrier makes it fit its own rules."""
        return f"robustsearch-{self.study}"

    @property
    def identity(self) -> str:
        """Eight hexadecimal digits that tell studies of one name in two storages apart."""
        return hashlib.sha256(f"{self.storage.rstrip('/')}/{self.study}".encode()).hexdigest()[:8]


@dataclass(frozen=True)
class State:
    """Where a job is: `reason` in words, and the exit code of its launch where it has ended and the code is known.

    `lost` is a job that the cluster does not know any more, or that ended without its launch saying how.
    """

    phase: Phase
    reason: str = ""
    code: int | None = None

    def __str__(self) -> str:
        code = f"with exit code {self.code}" if self.code is not None else ""
        return " ".join(part for part in (self.phase, code, self.reason) if part)

    @property
    def over(self) -> bool:
        """Whether nothing of the job runs any more, or will."""
        return self.phase in ("ended", "lost")


class Carrier(ABC):
    """One submission of one study.

    Raises (every method but `files`):
        ClusterError: the cluster cannot be reached, or refuses; the reason in words.
    """

    @abstractmethod
    def files(self) -> dict[str, str]:
        """Return what is submitted, script or manifest and the inner cluster file: relative name to text.

        Pure: the same submission gives the same files, and they hold no secret. `--render` writes them.
        """

    @abstractmethod
    def checks(self) -> Iterator[Finding]:
        """Yield what `doctor --cluster` prints; nothing is started or submitted."""

    @abstractmethod
    def submit(self) -> str:
        """Submit the job and return its id, or that of one which is queued or runs already.

        Two storages may have studies of one name: `Submission.identity` tells their jobs apart.
        """

    @abstractmethod
    def state(self, job: str) -> State:
        """Return where the job is."""

    @abstractmethod
    def log(self, job: str) -> Iterator[str]:
        """Yield the lines that the job has printed so far, for a person."""

    @abstractmethod
    def cancel(self, job: str) -> None:
        """End the job now; one that has ended already is not an error. The request to stop has been written before."""

    def ended(self, job: str) -> None:  # noqa: B027 (most kinds leave nothing)
        """Do what is left after a job that was followed to its end; no launch drives its study any more."""


class Remote(Cluster):
    """Base of the kinds whose trials run elsewhere: the launch is carried there as a job."""

    shares_directories: ClassVar[bool] = True
    """Whether the storage may be a directory, mounted on every node under the same path; else it must be a URI."""

    def check_storage(self, location: str | None) -> None:
        """Refuse a storage that the nodes cannot see.

        Raises:
            SpecError: none is given, or it is a directory where it must be a URI.
        """
        if location is None:
            example = "/shared/robustsearch" if self.shares_directories else "s3://bucket/robustsearch"
            raise SpecError(
                f"trials of kind {self.kind} run elsewhere, and the storage must be seen from there: write `storage: "
                f"{example}` in the cluster file, or give --storage"
            )
        if not self.shares_directories and ("://" not in location or location.startswith("file://")):
            raise SpecError(
                f"the storage {location} is a directory of this machine, where trials of kind {self.kind} do not run; "
                "name a URI such as s3://bucket/robustsearch"
            )

    @abstractmethod
    def carrier(self, submission: Submission) -> Carrier:
        """Return what carries one study there."""

    def examine(self) -> Iterator[Finding]:
        yield from self.carrier(Submission("check", "", self.storage or "")).checks()

    def recorded(self) -> dict[str, Any]:
        """Return the fields by which `status` and `stop` find the job later; they go to the storage: no secret."""
        return self.model_dump(mode="json")

    def inner(self, submission: Submission, **fields: Any) -> str:
        """Return the cluster file of the launch on the head: kind `address`, and the fields that all kinds share."""
        shared = self.model_dump(mode="json", include=set(Cluster.model_fields) - {"kind"}, exclude_defaults=True)
        options = {"storage_options": submission.storage_options} if submission.storage_options else {}
        return dump_yaml({"kind": "address", **shared, "storage": submission.storage, **options, **fields})

    def connect(
        self, code_paths: tuple[str, ...] = (), beside: Callable[[], None] | None = None
    ) -> AbstractContextManager[Connection]:
        """Refuse: no process here talks to the trials.

        Raises:
            ClusterError: always.
        """
        raise ClusterError(f"trials of kind {self.kind} run in a job, which `robustsearch launch` submits")
