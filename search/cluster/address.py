"""A Ray cluster that runs already."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from search.cluster import ray_start
from search.cluster.auto import host_and_port, located
from search.cluster.base import ClusterError
from search.cluster.connection import RayCluster
from search.cluster.tokens import ray_token, token_finding, token_known
from search.files.findings import Finding
from trainables.core.errors import RobustsearchError

SILENT_LOOKS = 5
"""How many checks of a head, a second apart, may fail: it may be short of sockets for a moment."""


class Address(RayCluster):
    """Use a Ray cluster that runs already; launch on one of its nodes."""

    kind: Literal["address"] = "address"
    address: str = Field(
        default="auto", description="`auto`, the cluster that this node belongs to, or the head's `host:port`."
    )
    token_file: str | None = Field(
        default=None,
        description="The cluster's token; null looks where Ray does: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, "
        "~/.ray/auth_token.",
    )
    allow_no_token: bool = Field(
        default=False, description="Accept a cluster without authentication: whoever reaches it can run code on it."
    )
    code: Literal["installed", "ship"] = Field(
        default="installed",
        description="`installed`: workers have robustsearch; `ship`: `trainables` is sent to them with the job.",
    )

    @field_validator("address")
    @classmethod
    def _reachable(cls, address: str) -> str:
        if address.startswith("ray://"):
            raise ValueError(
                f"{address} is a Ray Client address; run the launch on a node of the cluster instead "
                "(over ssh, or with `ray job submit`) and write `address: auto`"
            )
        if address != "auto" and host_and_port(address) is None:
            raise ValueError(f"{address!r} is neither 'auto' nor host:port such as 10.0.0.1:6379")
        return address

    def where(self) -> str:
        return f"the Ray cluster at {self.address}"

    def opening(self) -> str:
        try:
            address = located(self.address)
        except ClusterError:  # Connecting says it.
            address = self.address
        return f"connecting to the Ray cluster at {address} ..."

    def authenticate(self) -> None:
        if self.token_file:
            path = Path(self.token_file).expanduser()
            if not path.is_file():
                raise ClusterError(f"the cluster's token file {path} does not exist")
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
            os.environ.pop("RAY_AUTH_TOKEN", None)  # Ray would prefer it.
        if token_known():
            os.environ["RAY_AUTH_MODE"] = "token"
        elif self.allow_no_token:
            os.environ["RAY_AUTH_MODE"] = "disabled"
        else:
            raise ClusterError(
                "no token for the cluster: without one, anybody who reaches it can run code on it. Start Ray with "
                "RAY_AUTH_MODE=token and name the token_file in the cluster file, or write `allow_no_token: true` there"
            )

    def addressing(self) -> dict[str, Any]:
        return {"address": answering(self.address)}

    def starting(self) -> Callable[[], bool]:
        answers = _answers(self.address)
        return lambda: answers() and ray_start.joining_alive()

    def liveness(self, addressing: dict[str, Any]) -> Callable[[], bool]:
        """Return a check of the head, and of the node here through which the launch asks for workers."""
        return _answers(addressing["address"], ray_start.own_raylet())

    def refusal(self, reason: str) -> str:
        return (
            f"something listens at {self.address}, but no Ray cluster lets this driver in; "
            f"is the token that of the cluster? ({reason})"
        )

    def examine(self) -> Iterator[Finding]:
        path = Path(self.token_file).expanduser() if self.token_file else ray_token()
        if self.allow_no_token:
            accepted = "none; the cluster file accepts that anybody who reaches it can run code on it"
            missing = Finding("warn", "token", accepted)
        else:
            named = f"{path} does not exist; name the cluster's `token_file` in the cluster file"
            missing = Finding("fail", "token", named)
        yield token_finding(path, missing, named=bool(self.token_file))
        try:
            with self.connect() as connection:
                yield from connection.examine()
        except RobustsearchError as error:
            yield Finding("fail", "cluster", str(error))
        except ImportError:
            return  # Ray is missing, which is a finding already.

    def sends(self, module: str, path: Path) -> bool:
        return module == "trainables" or "site-packages" not in path.parts

    @property
    def sent_packages(self) -> tuple[str, ...]:
        return ("trainables",) if self.code == "ship" else ()


def _answers(address: str, raylet: str | None = None) -> Callable[[], bool]:
    """Return a check of the head and of a raylet here; what does not answer `SILENT_LOOKS` times in a row is dead."""
    silent = 0

    def check() -> bool:
        nonlocal silent, address
        try:
            address = answering(address)
            answers = raylet is None or ray_start.accepts(raylet)
        except ClusterError:
            answers = False
        silent = 0 if answers else silent + 1
        return silent < SILENT_LOOKS

    return check


def answering(address: str) -> str:
    """Return `host:port` of a cluster that accepts connections; Ray would wait minutes for one that was stopped.

    Raises:
        ClusterError: nothing listens there, or `auto` stands for no one cluster.
    """
    address = located(address)
    parts = host_and_port(address)
    assert parts is not None
    try:
        socket.create_connection(parts, timeout=5).close()
    except OSError as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error
    return address
