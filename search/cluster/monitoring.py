"""What others watch a Ray with: how to get into its dashboard, where its metrics are, and what Prometheus finds it by.

`robustsearch monitoring` makes a folder with the settings of Prometheus and Grafana. Where it is there, a Ray that a
launch starts is listed in it, and its dashboard embeds Grafana's.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from search.cluster.tokens import ray_token

VARIABLES = ("RAY_PROMETHEUS_HOST", "RAY_GRAFANA_HOST", "RAY_GRAFANA_DEFAULT_DASHBOARD_UID")
"""What Ray's dashboard is told by its environment."""
ENVIRONMENT = "ray.env"
TARGETS = "targets"
DISCOVERY = "prom_metrics_service_discovery.json"
"""The file in a session's folder in which Ray's head lists the metrics ports of its nodes."""


def default_folder() -> Path:
    """Return the folder that local launches look at."""
    return Path.home() / ".robustsearch" / "monitoring"


def way_in() -> str:
    """Return how to get into a dashboard of Ray, empty where it asks for nothing."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return ""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "its login asks for the token that RAY_AUTH_TOKEN holds"
    return f"its login asks for the token that `cat {shlex.quote(str(ray_token()))}` prints"


def environment() -> dict[str, str]:
    """Return the variables that the folder's file sets and this process's environment does not."""
    try:
        lines = (default_folder() / ENVIRONMENT).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    found = [re.fullmatch(r"export (\w+)=(\S+)", line) for line in lines]
    named = {match[1]: match[2] for match in found if match is not None}
    return {name: named[name] for name in VARIABLES if name in named and name not in os.environ}


@contextmanager
def listed(session: Path) -> Iterator[None]:
    """List the Ray with this folder of its session for Prometheus, for the length of a `with` block.

    Where the folder is missing, or cannot be written to, it is not listed.
    """
    targets = default_folder() / TARGETS
    link = targets / f"{session.parent.parent.name}.json"
    with suppress(OSError):
        for left in targets.glob("*.json"):
            if left.is_symlink() and not left.exists():
                left.unlink()  # Its launch was killed.
        link.symlink_to(session / DISCOVERY)
    try:
        yield
    finally:
        with suppress(OSError):
            link.unlink()


def metrics_url(node: Any) -> str:
    """Return where a node of Ray that this process started exports its metrics."""
    return f"http://127.0.0.1:{node.metrics_export_port}/metrics"
