"""Cluster files: where trials run and what each of them is given."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from search.files import yaml
from search.files.diagnostics import shown, spec_error
from trainables.core.errors import ExitCode, RobustsearchError, SpecError
from trainables.core.registry import Registry, nearest
from trainables.core.spec import Spec


class ClusterError(RobustsearchError):
    """The cluster is out of reach, or has not what the trials ask for."""

    exit_code = ExitCode.CLUSTER


class Cluster(Spec):
    """Base of every kind of cluster.

    A trial gets `cpus_per_trial` cores and `gpus_per_trial` GPUs; 0.25 puts four trials on a GPU. `concurrency`
    None runs as many trials at once as fit. `storage` is a directory or a URI that every node can
    write to; the command line's `--storage` comes before it.
    """

    kind: str
    cpus_per_trial: int = Field(default=1, gt=0)
    gpus_per_trial: float = Field(default=0.0, ge=0)
    concurrency: int | None = Field(default=None, gt=0)
    storage: str | None = None

    @field_validator("gpus_per_trial")
    @classmethod
    def _whole_beyond_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g} is above 1 and must then be a whole number")
        return gpus

    @property
    def resources(self) -> dict[str, float]:
        """What Ray is asked for, per trial."""
        gpus = {"GPU": self.gpus_per_trial} if self.gpus_per_trial else {}
        return {"CPU": float(self.cpus_per_trial), **gpus}


class Local(Cluster):
    """Start Ray on this machine for the length of the launch; `cpus` and `gpus` None take what it has."""

    kind: Literal["local"] = "local"
    cpus: int | None = Field(default=None, gt=0)
    gpus: int | None = Field(default=None, ge=0)
    dashboard_port: int | None = Field(default=None, gt=0, lt=65536)


class Address(Cluster):
    """Use a Ray cluster that runs already; launch on one of its nodes.

    `address` is `auto` or the head's `host:port`. `token_file` holds the cluster's token (default: the places
    where Ray looks); `allow_no_token` accepts a cluster without authentication. `code` says how workers get
    `trainables`: `installed` in their environment, or `ship` to send it with the job.
    """

    kind: Literal["address"] = "address"
    address: str = "auto"
    token_file: str | None = None
    allow_no_token: bool = False
    code: Literal["installed", "ship"] = "installed"

    @field_validator("address")
    @classmethod
    def _reachable(cls, address: str) -> str:
        if address.startswith("ray://"):
            raise ValueError(
                f"{address} is a Ray Client address; run the launch on a node of the cluster instead "
                "(over ssh, or with `ray job submit`) and write `address: auto`"
            )
        host, _, port = address.rpartition(":")
        if address != "auto" and not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(f"{address!r} is neither 'auto' nor host:port such as 10.0.0.1:6379")
        return address


CLUSTERS: Registry[Cluster] = Registry("cluster", {"local": Local, "address": Address})


def is_launcher_file(data: Any) -> bool:
    """Say whether `data` is a file for Ray's own cluster launcher, `ray up`."""
    return isinstance(data, dict) and "cluster_name" in data and "provider" in data


def load(path: str | Path | None) -> Cluster:
    """Read a cluster file; None is this machine.

    A bare name such as `gpu.yaml` that is no file here is looked for among the templates that ship.

    Raises:
        SpecError: with file, line, key, value and what is allowed.
    """
    if path is None:
        return Local()
    document = yaml.load(_find(path))
    if is_launcher_file(document.data):
        raise SpecError(
            f"{path} is a file for Ray's cluster launcher: start the cluster with `ray up {path}`, then launch on its "
            "head node with a cluster file of our own that says `kind: address`"
        )
    if not isinstance(document.data, dict):
        raise SpecError(f"{path}: a cluster file is a mapping that begins with 'kind: local' or 'kind: address'")
    kind = document.data.get("kind")
    if not isinstance(kind, str) or kind not in CLUSTERS:
        allowed = f"allowed: {', '.join(CLUSTERS)}{nearest(str(kind), CLUSTERS)}"
        raise SpecError(f"{document.where(('kind',))} kind: {shown(kind)} is no kind of cluster; {allowed}")
    try:
        return CLUSTERS[kind].model_validate(document.data)
    except ValidationError as error:
        raise spec_error(error, document, CLUSTERS[kind]) from None


def _find(path: str | Path) -> Path:
    named = Path(path)
    if not named.exists() and named.parent in (Path(), Path("clusters")):
        template = files("clusters") / named.name
        if template.is_file():
            return Path(str(template))
    return named
