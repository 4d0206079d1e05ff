"""The kinds of cluster, and cluster files: where trials run and what each of them is given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search.cluster.address import Address
from search.cluster.base import Cluster, ClusterError
from search.cluster.carriers.job import Job
from search.cluster.carriers.kubernetes import Kubernetes
from search.cluster.carriers.ray_up import RayUp
from search.cluster.carriers.slurm.cluster import Slurm
from search.cluster.inline import Inline
from search.cluster.local import Local
from search.files import yaml
from search.files.diagnostics import refuse_credentials, shown, spec_error
from search.files.plain_data import plain_data
from search.files.yaml import Document
from trainables.core import credentials
from trainables.core.errors import SpecError
from trainables.core.registry import Registry, nearest

__all__ = ["CLUSTERS", "Address", "Cluster", "ClusterError", "Inline", "Local", "is_launcher_file", "load", "resolve"]

CLUSTERS: Registry[Cluster] = Registry(
    "cluster",
    Cluster,
    {
        "local": Local,
        "address": Address,
        "inline": Inline,
        "job": Job,
        "ray-up": RayUp,
        "slurm": Slurm,
        "kubernetes": Kubernetes,
    },
)


def is_launcher_file(data: Any) -> bool:
    """Return whether `data` is a file for Ray's own cluster launcher, `ray up`."""
    return isinstance(data, dict) and "cluster_name" in data and "provider" in data


def resolve(cluster: Cluster | Mapping[str, Any] | str | Path | None) -> Cluster:
    """Return a cluster from whatever describes one: itself, its fields, a file, the name of a kind; None is `local`.

    Raises:
        SpecError: it is wrong.
    """
    if isinstance(cluster, Cluster):
        return cluster
    if isinstance(cluster, Mapping):
        return _parse(Document("the cluster", plain_data(cluster, "the cluster")))
    if cluster is not None and not isinstance(cluster, (str, Path)):
        allowed = "a cluster file, the name of a kind, its fields as a mapping, or None for this machine"
        raise SpecError(f"the cluster: {shown(cluster)} is of type {type(cluster).__name__}; give {allowed}")
    return load(cluster)


def load(path: str | Path | None) -> Cluster:
    """Read a cluster file; None is this machine.

    A bare name such as `gpu.yaml` that is not a file here is looked for among the templates that ship; one such as
    `inline` is a kind with its defaults.

    Raises:
        SpecError: with file, line, key, value and what is allowed.
    """
    if path is None:
        return Local()
    if credentials.in_uri(str(path)):
        raise SpecError(f"--cluster: {credentials.ADVICE}")
    if str(path) in CLUSTERS and not os.path.exists(path):
        return _parse(Document(f"--cluster {path} names no file:", {"kind": str(path)}))
    found = _find(path)
    if Path(path).name == str(path) and not Path(path).suffix and not os.path.exists(found):
        allowed = f"allowed: {', '.join(CLUSTERS)}{nearest(str(path), CLUSTERS)}"
        raise SpecError(f"{shown(str(path))} is neither a cluster file nor a kind of cluster; {allowed}")
    return from_document(yaml.load(found))


def from_document(document: Document) -> Cluster:
    """Read a cluster file that was parsed.

    Raises:
        SpecError: as `load`.
    """
    if is_launcher_file(document.data):
        raise SpecError(
            f"{document.name} is a file for Ray's cluster launcher, `ray up`: write a cluster file of our own that "
            f"names it, with the lines `kind: ray-up` and `config: {document.name}`"
        )
    return _parse(document)


def _parse(document: Document) -> Cluster:
    refuse_credentials(document)
    if not isinstance(document.data, dict):
        kinds = " or ".join(f"'kind: {kind}'" for kind in CLUSTERS)
        raise SpecError(f"{document.name}: a cluster file is a mapping that begins with {kinds}")
    kind = document.data.get("kind")
    if not isinstance(kind, str) or kind not in CLUSTERS:
        allowed = f"allowed: {', '.join(CLUSTERS)}{nearest(str(kind), CLUSTERS)}"
        raise SpecError(f"{document.where(('kind',))} kind: {shown(kind)} is an unknown kind of cluster; {allowed}")
    try:
        return CLUSTERS[kind].model_validate(document.data)
    except ValidationError as error:
        raise spec_error(error, document, CLUSTERS[kind]) from None


def _find(path: str | Path) -> Path:
    named = Path(path)
    if not os.path.exists(named) and named.parent in (Path(), Path("clusters")):
        template = files("clusters") / named.name
        if template.is_file():
            return Path(str(template))
    return named
