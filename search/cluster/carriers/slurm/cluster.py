"""A Slurm cluster: the launch is a batch job, and a Ray cluster starts on the job's nodes for its length."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from search.cluster.base import ACCELERATOR, ClusterError
from search.cluster.capacity import Node, capacity
from search.cluster.carriers.base import WAIT_SECONDS, Carrier, Remote, State, Submission
from search.cluster.carriers.slurm import commands, jobs
from search.cluster.carriers.slurm.script import script
from search.files.findings import Finding
from search.files.messages import counted
from trainables.core.errors import SpecError, StorageError
from trainables.store import paths

FORBIDDEN = {
    "--array": "a study is one job",
    "-a": "a study is one job",
    "--wrap": "the script is made here",
    "--nodes": "write `nodes`",
    "-N": "write `nodes`",
    "--ntasks": "a node is one task",
    "-n": "a node is one task",
    "--ntasks-per-node": "a node is one task",
    "--cpus-per-task": "write `cpus_per_node`",
    "-c": "write `cpus_per_node`",
    "--time": "write `time`",
    "-t": "write `time`",
    "--job-name": "the job is found by its name",
    "-J": "the job is found by its name",
    "--comment": "the job is found by its comment",
    "--signal": "write `save_seconds`",
    "--no-requeue": "write `requeues: 0`",
    "--test-only": "`robustsearch doctor --cluster FILE` does that",
    "--parsable": "its answer is read here",
}
"""Options of sbatch that `extra` may not have, and why."""

TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm", "/run")
"""Folders that each node has for itself."""
LONGEST_TEMP = 20
"""The longest path of `temp`: sockets below it may have 107 bytes, of which Ray's own names take about 70."""

_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.,@:+-]*$")]


class Slurm(Remote):
    """Submit the launch to Slurm as a batch job, which starts Ray on its nodes and resumes where its time runs out."""

    kind: Literal["slurm"] = "slurm"
    nodes: int = Field(default=1, gt=0, description="Nodes of the job.")
    cpus_per_node: int = Field(default=1, gt=0, description="Cores that the job takes on each node.")
    gpus_per_node: int | str | None = Field(
        default=None, description="GPUs that it takes on each node: a number, or type and number such as `a100:4`."
    )
    memory_per_node: Annotated[str, StringConstraints(pattern=r"^[0-9]+[KMGT]?$")] | None = Field(
        default=None, description="Memory that it takes on each node, such as `200G`; null is Slurm's default."
    )
    time: str | None = Field(
        default=None,
        description="The job's time limit as Slurm writes it, such as `24:00:00` or `2-00:00:00`; null is that of the "
        "partition. Where it is reached, running trials save, and the job is queued again.",
    )
    partition: Word | None = Field(default=None, description="The partition; null is Slurm's default.")
    account: Word | None = Field(default=None, description="The account that is charged; null is Slurm's default.")
    setup: tuple[str, ...] = Field(
        default=(),
        description="Lines of shell before anything starts, such as `source /shared/venv/bin/activate`; the job "
        "inherits the environment of the command line.",
    )
    requeues: int = Field(
        default=10,
        ge=0,
        description="How often the job requeues itself at its time limit; preemptions count.",
    )
    save_seconds: int = Field(
        default=180, ge=30, description="Seconds before the time limit at which running trials are told to save."
    )
    extra: tuple[str, ...] = Field(default=(), description="Further options of sbatch, such as `--qos=preempt`.")
    temp: str | None = Field(
        default=None, description="A folder on each node's own disk, with a short path, for Ray's files; null is /tmp."
    )
    allow_local_storage: bool = Field(
        default=False, description="Accept a storage below /tmp and the like, where all nodes see the same files."
    )

    @field_validator("gpus_per_node")
    @classmethod
    def _gpus(cls, gpus: int | str | None) -> int | str | None:
        if gpus is not None and not re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9_.-]*:)?[1-9][0-9]*", str(gpus)):
            raise ValueError(f"{gpus!r} is neither a number of GPUs nor a type with a number, such as 'a100:4'")
        return gpus

    @field_validator("time")
    @classmethod
    def _time(cls, time: str | None) -> str | None:
        if time is not None and not _TIME.fullmatch(time):
            raise ValueError(f"{time!r} is not a time of Slurm; write hours, minutes and seconds such as '24:00:00'")
        return time

    @field_validator("setup", "extra")
    @classmethod
    def _lines(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := next((line for line in lines if "\n" in line or "\0" in line), None):
            raise ValueError(f"{wrong!r} is more than one line; write an item for each")
        return lines

    @field_validator("extra")
    @classmethod
    def _options(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        for option in options:
            name = option.partition("=")[0].partition(" ")[0]
            if not name.startswith("-"):
                raise ValueError(f"{option!r} is not an option of sbatch; write one such as '--qos=preempt'")
            if reason := FORBIDDEN.get(name if name.startswith("--") else name[:2]):
                raise ValueError(f"{name} cannot be given here: {reason}")
        return options

    @field_validator("temp")
    @classmethod
    def _short(cls, temp: str | None) -> str | None:
        if temp is not None and (not temp.startswith("/") or len(temp) > LONGEST_TEMP):
            raise ValueError(
                f"{temp!r} must be an absolute path of at most {LONGEST_TEMP} characters: Ray's sockets lie below it"
            )
        return temp

    @model_validator(mode="after")
    def _fits(self) -> Self:
        try:
            kind = {f"{ACCELERATOR}{self.accelerator}": 1.0} if self.accelerator else {}
            node = Node("", "", {"CPU": self.cpus_per_node, "GPU": self.gpus, **kind})
            capacity(self, [node] * self.nodes)
        except ClusterError as error:
            raise ValueError(f"{error} (by `cpus_per_node` and `gpus_per_node`)") from None
        if self.time is not None and (seconds := time_seconds(self.time)) <= self.save_seconds:
            raise ValueError(f"save_seconds: {self.save_seconds} s leave nothing of the time limit, {seconds} s")
        return self

    @property
    def gpus(self) -> int:
        """The number of GPUs of each node."""
        return int(str(self.gpus_per_node).rpartition(":")[2]) if self.gpus_per_node is not None else 0

    def where(self) -> str:
        return f"a Slurm job on {counted(self.nodes, 'node')}"

    def opening(self) -> str:
        return "submitting to Slurm ..."

    def check_storage(self, location: str | None) -> None:
        super().check_storage(location)
        folder = str(location).removeprefix("file://")
        if "://" not in folder and (found := re.search(r"[%\\\x00-\x1f]", folder)):
            raise SpecError(f"the storage {folder!r} has a character that Slurm reads as something else: {found[0]!r}")
        own = next((name for name in TEMPORARY if PurePosixPath(folder).is_relative_to(name)), None)
        if own and not self.allow_local_storage:
            raise SpecError(
                f"the storage {location} is below {own}, which each node has for itself; name a directory that all "
                "nodes share, or a URI (`allow_local_storage: true` in the cluster file accepts it)"
            )

    def carrier(self, submission: Submission) -> SlurmCarrier:
        return SlurmCarrier(self, submission)


def time_seconds(time: str) -> int:
    """Return the seconds of `MINUTES[:SECONDS]`, `HOURS:MINUTES:SECONDS` or `DAYS-HOURS[:MINUTES[:SECONDS]]`."""
    match = _TIME.fullmatch(time)
    assert match is not None
    days, *parts = (int(part) if part is not None else None for part in match.groups())
    given = [part for part in parts if part is not None]
    units = (3600, 60, 1) if days is not None or len(given) == 3 else (60, 1)
    return (days or 0) * 86400 + sum(number * unit for number, unit in zip(given, units, strict=False))


class SlurmCarrier(Carrier):
    """One study as a batch job. The script carries the study and makes its own token, so nothing else is needed."""

    script_name: ClassVar[str] = "job.sh"

    def __init__(self, cluster: Slurm, submission: Submission) -> None:
        self._cluster = cluster
        self._study = submission

    def files(self) -> dict[str, str]:
        return {self.script_name: self._script()}

    def checks(self) -> Iterator[Finding]:
        for command in ("sbatch", "squeue", "scontrol"):
            if shutil.which(command) is None:
                yield Finding("fail", command, "not on this machine: run this on a login node of the Slurm cluster")
                return
        try:
            yield Finding("ok", "slurm", commands.run("sbatch", "--version").strip())
            yield Finding("ok", "job", self._test())
        except ClusterError as error:
            yield Finding("fail", "job", str(error))

    def _test(self) -> str:
        """Let Slurm check the job without submitting it, and return when it would start.

        Raises:
            ClusterError: Slurm refuses it.
        """
        said = commands.run("sbatch", "--test-only", *self._options(), text=self._script())
        self._check_partition()
        found = re.search(r"to start at (\S+) using (\d+) processors on nodes? (\S+)", said)
        return f"would start at {found[1]} on {found[3]}" if found else "accepted by `sbatch --test-only`"

    def _check_partition(self) -> None:
        """Refuse what `sbatch --test-only` accepts and then would wait for ever.

        Raises:
            ClusterError: the partition takes no jobs, or none of that time.
        """
        wanted = self._cluster.partition
        for line in commands.run("sinfo", "-h", "-o", "%P|%a|%l").splitlines():
            name, open_, limit = line.split("|")
            if name.rstrip("*") != wanted if wanted else not name.endswith("*"):
                continue
            if open_ != "up":
                raise ClusterError(f"the partition {name.rstrip('*')} is {open_}: the job would not start")
            time = self._cluster.time
            if time and limit != "infinite" and time_seconds(time) > time_seconds(limit):
                raise ClusterError(f"time: {time} is over the limit of the partition {name.rstrip('*')}, {limit}")

    def submit(self) -> str:
        if job := self._running():
            return job
        self._test()
        self._make_folder()
        said = commands.run("sbatch", "--parsable", *self._output(), *self._options(), text=self._script())
        answered = re.search(r"^(\d+)(;.*)?$", said, re.MULTILINE)
        if answered is None:
            raise ClusterError(f"sbatch answered no job id: {said.strip()[:200]}")
        return answered[1]

    def _running(self) -> str | None:
        """Return a job of this study that is queued or runs; by its comment, as other storages may have its name."""
        listed = commands.run("squeue", "--me", "-h", f"--name={self._study.name}", "-o", "%i %k")
        found = (line.split(maxsplit=1) for line in listed.splitlines())
        return next((parts[0] for parts in found if parts[1:] == [self._comment]), None)

    def state(self, job: str) -> State:
        try:
            return jobs.state(commands.run("scontrol", "show", "job", "--oneliner", job))
        except ClusterError as error:
            if commands.known(str(error)):
                raise
            return State("lost", "Slurm no longer knows it")

    def log(self, job: str) -> Iterator[str]:
        shown = jobs.fields(commands.run("scontrol", "show", "job", "--oneliner", job)).get("StdOut")
        if shown and Path(shown).is_file():
            with open(shown, errors="replace") as lines:
                yield from (line.rstrip("\n") for line in lines)

    def cancel(self, job: str) -> None:
        try:
            commands.run("scancel", job)
        except ClusterError as error:
            if commands.known(str(error)):
                raise

    @property
    def _comment(self) -> str:
        return f"robustsearch-{self._study.identity}"

    @property
    def _folder(self) -> str | None:
        """Where the job's log and a file for its nodes lie; None where the storage is not a directory."""
        storage = self._study.storage.removeprefix("file://")
        return None if "://" in storage else f"{storage}/{self._study.study}/{paths.CARRIER}"

    def _make_folder(self) -> None:
        """Make the folder of the log: Slurm makes none, and fails a job whose output it cannot open.

        Raises:
            StorageError: it cannot be made.
        """
        if self._folder is None:
            return
        try:
            Path(self._folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"the folder of the job's log, {self._folder}, cannot be made: {error.strerror}"
            ) from error

    def _output(self) -> list[str]:
        """Return the option that names the log.

        It is none of the script's: submitted by hand, it may find no folder yet, and makes it when it runs.
        """
        return [f"--output={self._folder}/slurm-%j.log"] if self._folder else []

    def _options(self) -> list[str]:
        """Return the options of sbatch, which win over its environment variables on the command line only."""
        cluster = self._cluster
        optional: dict[str, Any] = {
            "gpus-per-node": cluster.gpus_per_node,
            "mem": cluster.memory_per_node,
            "time": cluster.time,
            "partition": cluster.partition,
            "account": cluster.account,
        }
        return [
            f"--job-name={self._study.name}",
            f"--comment={self._comment}",
            f"--nodes={cluster.nodes}",
            "--ntasks-per-node=1",
            f"--cpus-per-task={cluster.cpus_per_node}",
            *(f"--{name}={value}" for name, value in optional.items() if value is not None),
            f"--signal=B:TERM@{cluster.save_seconds}",
            "--requeue",
            "--open-mode=append",
            *cluster.extra,
        ]

    def _script(self) -> str:
        cluster = self._cluster
        variables = {
            "RS_TEMP": (cluster.temp or "/tmp").rstrip("/"),
            "RS_MARK": f"{self._folder}/nodes" if self._folder else "",
            "RS_THREADS": str(cluster.cpus_per_trial),
            "RS_START_TIMEOUT": str(math.ceil(cluster.start_timeout)),
            "RS_REQUEUES": str(cluster.requeues),
        }
        words = ["--wait", str(WAIT_SECONDS), *self._study.words]
        texts = {"study": self._study.study_yaml, "cluster": cluster.inner(self._study, nodes=cluster.nodes)}
        return script(self._options(), cluster.setup, variables, words, texts, folder=self._folder)
