"""`ray up`: a cluster that Ray's own launcher starts on a cloud or by ssh; the launch then runs there as a Ray job."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from search.cluster.base import ClusterError
from search.cluster.carriers import ray_launcher
from search.cluster.carriers.base import Carrier, State, Submission
from search.cluster.carriers.job import DASHBOARD_PORT, JobCarrier, RayJobs, absolute
from search.cluster.carriers.tunnel import Tunnel
from search.files.findings import Finding
from search.files.messages import say

UP = "up.sh"
SILENT_LOOKS = 5
LOOK_EVERY = 2.0
TOKEN = "RAY_AUTH_MODE=token"
TOKEN_ON_NODES = "~/.ray/auth_token"
AUTOSCALING = "--autoscaling-config"
_HOST = re.compile(r"--dashboard-host[= ]+(\S+)")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_STARTS = ("head_start_ray_commands", "worker_start_ray_commands")


class RayUp(RayJobs):
    """Start a cluster with Ray's own launcher, and submit the launch to it as a job."""

    kind: Literal["ray-up"] = "ray-up"
    config: str = Field(default="ray-cluster.yaml", description="The cluster's file for `ray up`.")
    down: Literal["never", "after", "when-idle"] = Field(
        default="never",
        description="Whether the cluster is taken down after a study that was followed to its end: `when-idle` only if "
        "no other job runs on it.",
    )

    @property
    def config_path(self) -> str:
        """The launcher's file, as it is found from every folder."""
        return absolute(self.config)

    def where(self) -> str:
        return f"the Ray cluster of {self.config}"

    def opening(self) -> str:
        return f"looking for the Ray cluster of {self.config} ..."

    def recorded(self) -> dict[str, Any]:
        return {**super().recorded(), "config": self.config_path}

    def carrier(self, submission: Submission) -> Carrier:
        return RayUpCarrier(self, submission)


class RayUpCarrier(Carrier):
    """A launch on a cluster of Ray's launcher: its machines, a tunnel to its head, and the job there."""

    def __init__(self, cluster: RayUp, submission: Submission) -> None:
        self._cluster = cluster
        self._submission = submission
        self._path = cluster.config_path
        self._tunnel: Tunnel | None = None
        self._jobs: JobCarrier | None = None

    def files(self) -> dict[str, str]:
        tunnel = f"http://127.0.0.1:{DASHBOARD_PORT}"  # Where `ray dashboard` makes one.
        jobs = JobCarrier(self._cluster, self._submission, lambda: tunnel).files()
        return {**jobs, UP: f"#!/bin/sh\nexec ray up --yes {shlex.quote(self._path)}\n"}

    def checks(self) -> Iterator[Finding]:
        try:
            config = ray_launcher.load(self._path)
            complete = ray_launcher.prepared(self._path, config)
            yield Finding("ok", "ray up", f"{self._path}: the cluster {config['cluster_name']}")
            yield from safety(self._path, config, complete, self._cluster.token_file)
            jobs = self._reached()
        except ClusterError as error:
            yield Finding("fail", "ray up", str(error))
            return
        if jobs is None:
            yield Finding("ok", "cluster", "it is not up; a launch starts it")
        else:
            yield from jobs.checks()

    def submit(self) -> str:
        config = ray_launcher.load(self._path)
        complete = ray_launcher.prepared(self._path, config)
        for finding in safety(self._path, config, complete, self._cluster.token_file):
            if finding.level == "fail":
                raise ClusterError(finding.message)
        jobs = self._reached()
        # Ray that runs is left alone: `ray up` would restart it, and end the jobs on it.
        if jobs is None or not jobs.answers():
            say(f"starting the cluster {config['cluster_name']} with `ray up {self._path}`: this takes minutes")
            ray_launcher.up(self._path, say)
            jobs = self._reached()
        if jobs is None:
            raise ClusterError(f"`ray up {self._path}` has ended, and the cluster has no head")
        return jobs.submit()

    def _reached(self) -> JobCarrier | None:
        """Return the jobs of the cluster through a tunnel to its head, None where it has no head."""
        if self._tunnel is not None and self._jobs is not None and self._tunnel.open:
            return self._jobs
        found = ray_launcher.head(self._path)
        if found is None:
            return None
        self._tunnel = Tunnel(found, DASHBOARD_PORT)
        address = f"http://127.0.0.1:{self._tunnel.port}"
        self._jobs = JobCarrier(self._cluster, self._submission, lambda: address)
        return self._jobs

    def state(self, job: str) -> State:
        """Return where the job is; it is lost with the cluster, and with Ray on a head that is still there."""
        for _ in range(SILENT_LOOKS):
            jobs = self._reached()
            if jobs is None:
                return State("lost", f"the cluster of {self._path} is down")
            if jobs.answers():
                return jobs.state(job)
            time.sleep(LOOK_EVERY)
        return State("lost", f"Ray no longer runs on the head of the cluster of {self._path}")

    def log(self, job: str) -> Iterator[str]:
        jobs = self._reached()
        yield from () if jobs is None else jobs.log(job)

    def cancel(self, job: str) -> None:
        """End the job, and the cluster where its file says so."""
        jobs = self._reached()
        if jobs is not None:
            jobs.cancel(job)
            self.ended(job)

    def ended(self, job: str) -> None:
        """Take the cluster down where its file says so; a failure is said, and the study has ended all the same."""
        by_hand = f"`ray down {shlex.quote(self._path)}` gives its machines back"
        try:
            jobs = self._reached()
            if jobs is None:
                return
            others = jobs.others(job) if self._cluster.down == "when-idle" else []
            if others:
                say(f"the cluster stays up for {', '.join(others)}; {by_hand}")
            elif self._cluster.down == "never":
                say(f"the cluster stays up; {by_hand}")
            else:
                say("taking the cluster down ...")
                ray_launcher.down(self._path, say)
                if jobs.answers():
                    say(
                        "Ray still runs on the machines: `ray down` found no `ray` on the path of a login shell there; "
                        "add it in ~/.bashrc, and run `ray stop` on them"
                    )
        except ClusterError as error:
            say(f"the cluster is not taken down: {error}; {by_hand}")


def safety(path: str, config: dict[str, Any], complete: dict[str, Any], token_file: str | None) -> Iterator[Finding]:
    """Yield what lets others in: a dashboard for everybody, Ray without a token; and what keeps us out.

    `complete` is `config` with the defaults of its provider.
    """
    text = Path(path).read_text()
    for key in _STARTS:
        starts = [command for command in complete.get(key) or [] if "ray start" in command]
        if key in config:
            yield from (problem for command in starts for problem in _unsafe(path, text, key, command))
        elif any(_unsafe(path, text, key, command) for command in starts):
            yield Finding("fail", "ray up", _default(path, key, complete))
    if _STARTS[0] in config and not any("ray start" in command for command in config[_STARTS[0]] or []):
        yield Finding("fail", "ray up", f"{path}: no command of {_STARTS[0]} starts Ray: `ray start --head`")
    if not any(AUTOSCALING in command for command in complete.get(_STARTS[0]) or []):
        needed = f"`{AUTOSCALING}=~/ray_bootstrap_config.yaml`"
        yield Finding("warn", "ray up", f"{path}: without {needed} in {_STARTS[0]} the cluster starts no workers")
    yield from _token_on_nodes(path, complete, token_file)


def _unsafe(path: str, text: str, key: str, command: str) -> list[Finding]:
    found = []
    host = _HOST.search(command)
    if host and host[1].strip("'\"") not in _LOOPBACK:
        at = _where(path, text, command, host[0])
        found.append(
            f"{at} {key}: {host[0]} opens the dashboard, which runs code for whoever reaches it, to the network; "
            "remove it, and reach the dashboard by ssh, as this launch does"
        )
    if TOKEN not in command:
        at = _where(path, text, command, "ray start")
        found.append(f"{at} {key}: Ray starts without authentication; write `{TOKEN} ray start ...`")
    return [Finding("fail", "ray up", message) for message in found]


def _where(path: str, text: str, command: str, part: str) -> str:
    """Return the file and the line of a command, of its part where it is folded over lines."""
    lines = [*enumerate(text.splitlines(), 1)]
    found = (f"{path}:{number}" for wanted in (command, part) for number, line in lines if wanted in line)
    return next(found, path)


def _default(path: str, key: str, complete: dict[str, Any]) -> str:
    """Return what is wrong with the start commands of a provider, and what to write instead."""
    kind = complete["provider"].get("type")
    safe = [_HOST.sub("", command).replace("ray start", f"{TOKEN} ray start").strip() for command in complete[key]]
    lines = "\n".join(f"    - {command}" for command in safe)
    return (
        f"{path} has no {key}: Ray's own for the provider {kind} start Ray without authentication, and some open its "
        f"dashboard to the network. Write:\n{key}:\n{lines}"
    )


def _token_on_nodes(path: str, complete: dict[str, Any], token_file: str | None) -> Iterator[Finding]:
    """Yield a warning where nothing in the file brings a token to the machines."""
    mounts = complete.get("file_mounts") or {}
    given = any("auth_token" in str(target) for target in mounts) or "RAY_AUTH_TOKEN" in str(complete.get(_STARTS[0]))
    if token_file:
        given = given or absolute(token_file) in (absolute(str(source)) for source in mounts.values())
    if not given:
        source = token_file or os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN_ON_NODES
        yield Finding(
            "warn",
            "token",
            f"{path} brings no token to the machines, and Ray does not start there without one; unless their image has "
            f'it, write `file_mounts: {{"{TOKEN_ON_NODES}": "{source}"}}`',
        )
