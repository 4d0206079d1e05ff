"""What every kind of cluster is, and what a launch sees of one that it has connected to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from search.files.findings import Finding
from trainables.core.errors import ExitCode, RobustsearchError
from trainables.core.spec import Spec
from trainables.store.storage import Address, parsed_uri
from trainables.store.storage_options import StorageOptions

LEAST_GPU_SHARE = 1e-4
"""Ray counts resources in these steps."""
ACCELERATOR = "accelerator_type:"
"""What Ray's names of resources begin with that stand for a type of GPU; a node with such GPUs has 1 of it."""
ACCELERATOR_SHARE = 0.001
"""How much of it a trial asks for, as Ray itself does for `accelerator_type`."""


class ClusterError(RobustsearchError):
    """The cluster cannot be reached, or does not have what the trials ask for."""

    exit_code = ExitCode.CLUSTER


@dataclass(frozen=True)
class ProbeRequest:
    """What a worker checks before the first trial, as plain data: arguments of `trainables.worker.probe.probe`.

    `networks` are the models that trials have, each with the pruners that cut it, and `trials` are run in small;
    `silence` is the limit in seconds of the time in which nothing progresses.
    """

    data: dict[str, Any]
    networks: Sequence[tuple[dict[str, Any], Sequence[dict[str, Any]]]]
    storage: Address
    plugins: Sequence[str]
    precision: Any
    trials: Sequence[dict[str, Any]] = ()
    silence: float | None = None


class Connection(ABC):
    """A cluster that a launch is connected to.

    `capacity` is how many trials run at once; `metrics` is the URL of the cluster's metrics, empty where it has none.
    """

    def __init__(self, capacity: int, nodes: int = 1) -> None:
        self.capacity = capacity
        self.nodes = nodes
        self.metrics = ""

    def alive(self) -> bool:
        """Return whether the cluster still answers."""
        return True

    def views(self) -> Iterator[str]:
        """Yield where else the trials can be watched, a sentence each, as far as it has not been said.

        To be called before the trials and, once one has started, about once a second: what takes time starts then.
        """
        yield from ()

    def wait_for_room(self, wait: float, *, cancelled: Callable[[], bool], say: Callable[[str], None]) -> bool:
        """Wait until the cluster has the nodes and the room that the trials need; set `capacity` and `nodes`.

        It waits for `wait` seconds, or for as long as the cluster file says. False if `cancelled()` turned true
        meanwhile.

        Raises:
            ClusterError: the time is over, or waiting is in vain.
        """
        return not cancelled()

    def fits_now(self, left: int) -> int | None:
        """Return how many trials fit on the nodes now, where the cluster grows and shrinks; None where it does not.

        To be called about once a second: nodes are counted now and then, and asked for only while `left` trials may
        still use them.
        """
        return None

    @abstractmethod
    def probe(
        self, request: ProbeRequest, *, cancelled: Callable[[], bool], say: Callable[[str], None]
    ) -> dict[str, Any] | None:
        """Run the probe where trials run; return what it found, or None if `cancelled()` turned true meanwhile.

        Raises:
            ClusterError: no worker can run it, or it failed there (`exit_code` is that of the cause).
        """

    def confirm(
        self, jobs: Sequence[dict[str, Any]], *, cancelled: Callable[[], bool], look: Callable[[], None]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Run jobs of `trainables.worker.confirm` where trials run, and yield the number of each with what it answers.

        `look()` is called about once a second meanwhile. After `cancelled()` turned true no job starts, those that run
        are given up, and their results so far stay.
        """
        raise NotImplementedError(f"{type(self).__name__} runs no confirmations")


def checked_probe(found: dict[str, Any]) -> dict[str, Any]:
    """Return what a probe found.

    Raises:
        ClusterError: the probe reports an error; `exit_code` is that of the cause.
    """
    if "error" in found:
        problem = ClusterError(found["error"])
        problem.exit_code = ExitCode(found["exit_code"])
        raise problem
    return found


class Cluster(Spec):
    """Base of every kind of cluster: one class with its fields, how to connect, and what `doctor` checks.

    A new kind is one file and one line in `search.cluster.spec.CLUSTERS`.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    kind: str
    cpus_per_trial: int = Field(default=1, gt=0, description="Cores, and threads, of a trial.")
    gpus_per_trial: float = Field(
        default=0.0, ge=0, description="GPUs of a trial; 0.25 puts four trials on one GPU, above 1 only whole numbers."
    )
    concurrency: int | None = Field(
        default=None, gt=0, description="How many trials run at once; null runs as many as fit."
    )
    max_concurrency: int | None = Field(
        default=None,
        gt=0,
        description="For a cluster that grows by itself: how many trials may run at once, or wait for nodes.",
    )
    accelerator: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="The type of GPU that a trial asks for, by Ray's name, such as A100; null takes any.",
    )
    nodes: int | None = Field(
        default=None, gt=0, description="Wait until this many nodes are alive; null takes those that there are."
    )
    start_timeout: float = Field(
        default=600.0,
        gt=0,
        description="Seconds to wait for `nodes`, and for the first node of an autoscaled cluster.",
    )
    storage: str | None = Field(
        default=None,
        description="The storage root, a directory or a URI that every node can write to; --storage overrides it.",
    )
    storage_options: StorageOptions = Field(
        default=StorageOptions(),
        description="How an object store is reached: endpoint, region and the like; never keys.",
    )

    runner: ClassVar[Literal["tune", "inline"]] = "tune"
    """What runs the trials: `search.launch.tune` (Ray) or `search.launch.inline` (this process)."""
    this_machine: ClassVar[bool] = False
    """Whether trials run on the machine of the launch, and read its files."""
    live_view: ClassVar[bool] = True
    """Whether a live panel may be drawn over the terminal while trials run."""

    @field_validator("storage")
    @classmethod
    def _a_place(cls, storage: str | None) -> str | None:
        if storage is not None and "://" in storage and not storage.startswith("file://"):
            try:
                parsed_uri(storage)
            except RobustsearchError as error:
                raise ValueError(str(error)) from None
        return storage

    @field_validator("gpus_per_trial")
    @classmethod
    def _shareable(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g} is above 1 and must then be a whole number")
        if 0 < gpus < LEAST_GPU_SHARE:
            raise ValueError(f"{gpus:g} is less than Ray can share: 0, or at least {LEAST_GPU_SHARE:g}")
        return gpus

    @field_validator("max_concurrency", "nodes")
    @classmethod
    def _of_many_nodes(cls, value: int | None) -> int | None:
        if cls.this_machine and value is not None:
            raise ValueError("trials run only on this machine; leave it out, or use another kind of cluster")
        return value

    @field_validator("accelerator")
    @classmethod
    def _scheduled(cls, accelerator: str | None, given: ValidationInfo) -> str | None:
        if cls.runner == "inline" and accelerator is not None:
            raise ValueError("trials run in this process, which chooses no GPU; leave it out")
        if accelerator is not None and given.data.get("gpus_per_trial") == 0:
            raise ValueError(
                "trials ask for no GPU, and would run on the CPUs of those nodes; write `gpus_per_trial: 1` too"
            )
        return accelerator

    @model_validator(mode="after")
    def _fixed_or_growing(self) -> Self:
        if self.concurrency is not None and self.max_concurrency is not None:
            raise ValueError("concurrency and max_concurrency exclude each other; the latter is for clusters that grow")
        return self

    @property
    def resources(self) -> dict[str, float]:
        """The resources of one trial, by Ray's names."""
        gpus = {"GPU": self.gpus_per_trial} if self.gpus_per_trial else {}
        kind = {f"{ACCELERATOR}{self.accelerator}": ACCELERATOR_SHARE} if self.accelerator else {}
        return {"CPU": float(self.cpus_per_trial), **gpus, **kind}

    @property
    def patience(self) -> float:
        """Seconds to wait for nodes: of a cluster whose nodes are counted, or that grows, they may still start."""
        return self.start_timeout if self.nodes or self.max_concurrency else 0.0

    @abstractmethod
    def where(self) -> str:
        """Return where trials run, for a sentence."""

    @abstractmethod
    def opening(self) -> str:
        """Return what a launch does first, for a message."""

    def starting(self) -> Callable[[], bool]:
        """Return a check, called from another thread about once a second, of whether `connect` may still succeed."""
        return lambda: True

    @abstractmethod
    def connect(
        self, code_paths: tuple[str, ...] = (), beside: Callable[[], None] | None = None
    ) -> AbstractContextManager[Connection]:
        """Connect for the length of a `with` block; `code_paths` are packages and modules sent to the workers.

        `beside()` may be called in a thread of its own while that takes seconds.

        Raises:
            ClusterError: the cluster cannot be reached, or refuses.
        """

    def examine(self) -> Iterator[Finding]:
        """Yield what `doctor` finds of tokens and of the connection."""
        yield from ()

    def sends(self, module: str, path: Path) -> bool:
        """Return whether a plug-in's module or package is sent to the workers."""
        return False

    @property
    def sent_packages(self) -> tuple[str, ...]:
        """Packages of this project that are sent to the workers."""
        return ()
