"""Ray jobs: the launch runs as a job of a Ray cluster that runs already, submitted to its dashboard."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from search.cluster import tokens
from search.cluster.base import ClusterError
from search.cluster.carriers.base import WAIT_SECONDS, Carrier, Remote, State, Submission
from search.cluster.carriers.job_server import JobExists, JobServer
from search.cluster.carriers.package import package
from search.files.findings import Finding
from search.files.messages import say
from trainables.core.errors import ExitCode

STUDY, INNER, SUBMIT = "study.yaml", "inner.yaml", "submit.sh"
LEAST_RAY = (2, 60)
LEAST_PYTHON = (3, 11)
DASHBOARD_PORT = 8265
GRACE_SECONDS = 60.0
"""How long a launch that was asked to stop may take; Ray gives 3 seconds to a job that it stops."""
ENDING_SECONDS = 30.0
LOOK_EVERY = 2.0
TRIES = 5
_IDENTITY = "robustsearch"
"""The key of a job's metadata by which the studies of two storages are told apart."""
ALIVE = ("PENDING", "RUNNING")
_SHOWN = 300
_NOT_SHOWN = ("next: ", "Running entrypoint for job ")
"""How lines of a job's log begin that do not say why it ended."""
_LOST = {
    "RUNTIME_ENV_SETUP_FAILURE": "Ray could not give it its files",
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT": "Ray could not start it in time; the head is short of time or memory",
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE": "Ray found no node for it",
    "JOB_SUPERVISOR_ACTOR_DIED": "Ray's supervisor of the job died, with it the launch",
}
_OPEN = (
    "the cluster at {} has no authentication: anybody who reaches it can run code on it. Start Ray with "
    "RAY_AUTH_MODE=token, or write `allow_no_token: true` in the cluster file"
)
_SCRIPT = """#!/bin/sh
# Submits the launch as a Ray job, to the dashboard and with the token's file that the cluster file names.
# Plug-ins of the study, and with `code: ship` the packages `search` and `trainables`, belong beside this script.
# Headers for a proxy: `export RAY_JOB_HEADERS='{"NAME": "VALUE"}'`.
cd "$(dirname "$0")" || exit
"""
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NO_PYTHON = re.compile(r"python: (?:command )?not found|exec: python:", re.I)
_NO_MODULE = re.compile(r"No module named '?([\w.]+)")


class RayJobs(Remote):
    """Base of the kinds that submit a launch as a Ray job."""

    token_file: str | None = Field(
        default=None,
        description="The cluster's token, a file of this machine; null looks where Ray does: RAY_AUTH_TOKEN, "
        "RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token.",
    )
    code: Literal["installed", "ship"] = Field(
        default="installed",
        description="`installed`: head and workers have robustsearch; `ship`: this project is sent with the job.",
    )
    shell: str | None = Field(
        default=None,
        description="What bash runs before the launch in the job, such as `source /opt/venv/bin/activate`.",
    )

    def recorded(self) -> dict[str, Any]:
        """Write paths as they are found from every folder."""
        return {**super().recorded(), "token_file": self.token_file and absolute(self.token_file)}

    def sends(self, module: str, path: Path) -> bool:
        return "site-packages" not in path.parts

    @property
    def sent_packages(self) -> tuple[str, ...]:
        return ("search", "trainables") if self.code == "ship" else ()

    @property
    def open_to_all(self) -> bool:
        """Whether a cluster without authentication is accepted."""
        return False

    def sent_headers(self) -> dict[str, str]:
        """Return what is sent with every request beside the token.

        Raises:
            ClusterError: a variable of the environment that holds one is missing.
        """
        return {}


class Job(RayJobs):
    """Submit the launch as a job to a Ray cluster that runs already."""

    kind: Literal["job"] = "job"
    address: str = Field(
        default=f"http://127.0.0.1:{DASHBOARD_PORT}",
        description="Address of the head's dashboard as seen from here, through a tunnel or a proxy.",
    )
    allow_no_token: bool = Field(
        default=False, description="Accept a cluster without authentication: whoever reaches it can run code on it."
    )
    headers: dict[str, str] = Field(
        default={}, description="Headers for a proxy before the cluster; `$NAME` stands for a variable of this machine."
    )

    @field_validator("address")
    @classmethod
    def _http(cls, address: str) -> str:
        if address.startswith("ray://"):
            raise ValueError(f"{address} is a Ray Client address; write that of the dashboard: http://HOST:8265")
        parts = urlsplit(address if "://" in address else f"http://{address}")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{address!r} is not an address of a Ray dashboard, such as http://10.0.0.1:8265")
        port = parts.port or (DASHBOARD_PORT if "://" not in address else None)
        return f"{parts.scheme}://{parts.hostname}{f':{port}' if port else ''}{parts.path.rstrip('/')}"

    @field_validator("headers")
    @classmethod
    def _headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER.fullmatch(name) or not value.isprintable():
                raise ValueError(f"{name!r} is not a name of a header, or its value has more than one line")
        return headers

    def where(self) -> str:
        return f"the Ray cluster at {self.address}"

    def opening(self) -> str:
        return f"submitting a job to the Ray cluster at {self.address} ..."

    @property
    def open_to_all(self) -> bool:
        return self.allow_no_token

    def sent_headers(self) -> dict[str, str]:
        sent = {}
        for name, value in self.headers.items():
            found = os.environ.get(value[1:]) if value.startswith("$") else value
            if found is None:
                raise ClusterError(f"the header {name} of the cluster file is in {value}, which is not set here")
            sent[name] = found
        return sent

    def recorded(self) -> dict[str, Any]:
        """Leave out headers that are written in full: they are secrets."""
        kept = {name: value for name, value in self.headers.items() if value.startswith("$")}
        return {**super().recorded(), "headers": kept}

    def carrier(self, submission: Submission) -> Carrier:
        return JobCarrier(self, submission, lambda: self.address)


class JobCarrier(Carrier):
    """A launch as a Ray job; `address` returns where the dashboard answers, and is called when it is needed."""

    def __init__(self, cluster: RayJobs, submission: Submission, address: Callable[[], str]) -> None:
        self._cluster = cluster
        self._submission = submission
        self._address = address

    @cached_property
    def server(self) -> JobServer:
        """The cluster's dashboard.

        Raises:
            ClusterError: the token file, or a variable that a header names, is missing.
        """
        token, headers = tokens.read_token(self._cluster.token_file), self._cluster.sent_headers()
        return JobServer(self._address(), token, headers)

    def files(self) -> dict[str, str]:
        return {**self._inputs(), SUBMIT: self._script()}

    def _inputs(self) -> dict[str, str]:
        """Return what the job finds in its current folder."""
        # Ray gives the job the address of the cluster, and the head's own token.
        fields: dict[str, Any] = {"address": "auto", "code": self._cluster.code}
        if self._cluster.open_to_all:
            fields["allow_no_token"] = True
        return {STUDY: self._submission.study_yaml, INNER: self._cluster.inner(self._submission, **fields)}

    def entrypoint(self) -> str:
        """Return the command of the job, in words of `sh`."""
        launch = ["python", "-m", "search.console", "launch", STUDY, "--cluster", INNER, "--wait", str(WAIT_SECONDS)]
        command = f"exec {shlex.join([*launch, *self._submission.words])}"
        if not self._cluster.shell:
            return command
        # On lines of its own: it may have several, end in a comment or `;`, or join commands with `||`.
        return shlex.join(["exec", "bash", "-c", f"{{\n{self._cluster.shell}\n}} && {command}"])

    def _script(self) -> str:
        """Return what submits the same job by hand, with the files beside it."""
        metadata = json.dumps({_IDENTITY: self._submission.identity})
        words = ["ray", "job", "submit", "--no-wait", "--working-dir", ".", "--metadata-json", metadata]
        lines = [f"export RAY_API_SERVER_ADDRESS={shlex.quote(self._address())}"]
        if not self._cluster.open_to_all:
            lines.append("export RAY_AUTH_MODE=token")
        if named := self._cluster.token_file:  # Ray prefers that of the environment.
            lines.append(f"unset RAY_AUTH_TOKEN; export RAY_AUTH_TOKEN_PATH={shlex.quote(absolute(named))}")
        beginning = _SCRIPT + "".join(f"{line}\n" for line in lines)
        return f"{beginning}exec {shlex.join(words)} -- {self.entrypoint()}\n"

    def checks(self) -> Iterator[Finding]:
        named = self._cluster.token_file
        path = Path(absolute(named)) if named else tokens.ray_token()
        found = path.is_file() if named else tokens.token_known()
        if found:  # What is missing is said by the cluster, or by the error of reading it.
            missing = Finding("fail", "token", f"{path} does not exist")
            yield tokens.token_finding(path, missing, named=bool(named))
        try:
            yield from self._examined()
        except ClusterError as error:
            yield Finding("fail", "cluster", str(error))

    def _examined(self) -> Iterator[Finding]:
        """Yield what the cluster says of itself, and of the token."""
        server = self.server
        guarded = server.demands_token()
        if not guarded and not self._cluster.open_to_all:
            yield Finding("fail", "token", _OPEN.format(server.address))
        if not server.encrypted:
            yield Finding("warn", "token", f"{server.address} is not encrypted: who is on the way can read the token")
        server.jobs()
        ray, python = server.ray_version(), server.python_version()
        yield Finding("ok", "cluster", f"{server.address} answers{', and accepts the token' if guarded else ''}")
        yield _fits("Ray", ray, LEAST_RAY)
        if python:
            yield _fits("Python", python, LEAST_PYTHON)

    def submit(self) -> str:
        for finding in self._examined():
            if finding.level == "fail":
                raise ClusterError(finding.message)
        for _ in range(TRIES):
            known = self.server.jobs()
            if running := self._running(known):
                return running
            try:
                return self.server.submit(self._request(known))
            except JobExists:  # Another launch was faster: it may be of the same study.
                continue
        raise ClusterError(
            f"other launches of {self._submission.study} take every id at {self.server.address}; try again"
        )

    def answers(self) -> bool:
        """Return whether a dashboard answers, whatever it thinks of the token."""
        try:
            self.server.demands_token()
        except ClusterError:
            return False
        return True

    def others(self, job: str) -> list[str]:
        """Return what else runs on the cluster: the ids of jobs, submitted or not."""
        running = (other for other in self.server.jobs() if other.get("status") in ALIVE)
        ids = (str(other.get("submission_id") or other.get("job_id")) for other in running)
        return [other for other in ids if other != job]

    def _running(self, known: list[dict[str, Any]]) -> str | None:
        """Return the id of a job of this study that has not ended."""
        for job in known:
            mine = (job.get("metadata") or {}).get(_IDENTITY) == self._submission.identity
            if mine and job.get("status") in ALIVE and job.get("submission_id"):
                return str(job["submission_id"])
        return None

    def _request(self, known: list[dict[str, Any]]) -> dict[str, Any]:
        """Send the files of a job, and return the request that submits it, under the first id that is free.

        Ray starts what asks for no resources on the head.
        """
        mine = re.compile(f"{re.escape(self._submission.name)}-([0-9]+)")
        taken = [int(found[1]) for job in known if (found := mine.fullmatch(str(job.get("submission_id"))))]
        uri = self.server.upload(*package(self._inputs(), self._submission.code))
        return {
            "entrypoint": self.entrypoint(),
            "submission_id": f"{self._submission.name}-{max(taken, default=0) + 1}",
            "runtime_env": {"working_dir": uri},
            "metadata": {_IDENTITY: self._submission.identity},
            "entrypoint_num_cpus": 0,
        }

    def state(self, job: str) -> State:
        found = self.server.job(job)
        if found is None:
            return State("lost", f"the cluster at {self.server.address} knows no job {job}; was its head restarted?")
        return job_state(found)

    def log(self, job: str) -> Iterator[str]:
        yield from self.server.log(job).splitlines()

    def cancel(self, job: str) -> None:
        """Give a launch that runs, and was asked to stop, a minute; then end it."""
        running = self.state(job).phase == "running"
        if running:
            say(f"waiting up to {GRACE_SECONDS:.0f} s for {job} to save and end")
        if not self._over(job, GRACE_SECONDS if running else 0.0):
            self.server.stop(job)
            self._over(job, ENDING_SECONDS)

    def _over(self, job: str, seconds: float) -> bool:
        """Wait for the end of a job; return whether it came."""
        until = time.monotonic() + seconds
        while not self.state(job).over:
            if time.monotonic() > until:
                return False
            time.sleep(LOOK_EVERY)
        return True


def absolute(path: str) -> str:
    """Return a path of this machine as it is found from every folder."""
    return os.path.abspath(os.path.expanduser(path))


def job_state(job: dict[str, Any]) -> State:
    """Return where a job is, from what the cluster says of it."""
    status, message = str(job.get("status")), str(job.get("message") or "")
    code = job.get("driver_exit_code")
    if status == "PENDING":
        return State("starting", "Ray sends its files to the head, and starts it")
    if status == "RUNNING":
        return State("running")
    if status == "SUCCEEDED":
        return State("ended", code=ExitCode.DONE)
    if status == "STOPPED":
        return State("ended", "it was stopped", ExitCode.TERMINATED)
    if not isinstance(code, int):
        reason = _LOST.get(str(job.get("error_type")), "Ray ended it")
        return State("lost", f"{reason}: {_last_line(message)}" if message else reason)
    if not_begun := _not_begun(code, message):
        return State("ended", not_begun, ExitCode.CLUSTER)
    return State("ended", _last_line(message), code if code >= 0 else 128 - code)


def _not_begun(code: int, message: str) -> str:
    """Return what to do where the launch of a job did not even begin, empty where it did."""
    if _NO_PYTHON.search(message):
        return "the head has no `python` on its path; activate an environment with `shell` in the cluster file"
    missing = _NO_MODULE.search(message)
    if missing and code == ExitCode.BUG:
        return (
            f"the head's python has no module {missing[1]}; install robustsearch there, send it with `code: ship`, or "
            "activate its environment with `shell` in the cluster file"
        )
    return ""


def _last_line(text: str) -> str:
    shown = (line.strip() for line in text.splitlines() if not line.startswith(_NOT_SHOWN))
    lines = [line for line in shown if line]
    return lines[-1][:_SHOWN] if lines else ""


def _fits(what: str, version: str, least: tuple[int, int]) -> Finding:
    """Compare the cluster's version of something with the oldest one that robustsearch runs with."""
    numbers = tuple(int(part) for part in re.findall(r"[0-9]+", version)[:2])
    if numbers and numbers < least:
        needs = ".".join(map(str, least))
        return Finding("fail", what, f"the cluster has {what} {version}; robustsearch needs {needs} or later there")
    return Finding("ok", what, f"{version} on the cluster")
