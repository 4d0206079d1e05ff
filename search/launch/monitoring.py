"""Settings of Prometheus and Grafana that show searches, in the place where Ray's dashboard embeds them.

Templates are package data of `clusters/monitoring`. The dashboard has Ray's own panels below ours: Ray's pages for
nodes and actors show some of them, and all are found under the one name that its dashboard embeds.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
import warnings
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from search.cluster.monitoring import DISCOVERY, ENVIRONMENT, TARGETS, VARIABLES, default_folder
from search.results.exporters.output import OutputError, write_output
from trainables.core.errors import SpecError

DASHBOARD = "robustsearch"
"""The uid of the dashboard."""


@dataclass(frozen=True)
class Monitoring:
    """Where the settings are, and what starts Prometheus and Grafana with them."""

    directory: Path
    prometheus_port: int
    grafana_port: int
    session: Path | None

    def commands(self) -> tuple[str, str]:
        """Return the two commands, for a shell."""
        prometheus = {
            "config.file": self.directory / "prometheus.yml",
            "storage.tsdb.path": self.directory / "prometheus",
            "web.listen-address": f"127.0.0.1:{self.prometheus_port}",
        }
        grafana = self.directory / "grafana" / "grafana.ini"
        return (
            shlex.join(["prometheus", *(f"--{name}={value}" for name, value in prometheus.items())]),
            f"grafana server --homepath /usr/share/grafana --config {shlex.quote(str(grafana))}",
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that a Ray head needs for its dashboard to show them."""
        hosts = (f"http://127.0.0.1:{port}" for port in (self.prometheus_port, self.grafana_port))
        return dict(zip(VARIABLES, (*hosts, DASHBOARD), strict=True))

    def files(self) -> dict[str, str]:
        """Return the content of each file, by its path in the directory."""
        values = {
            "directory": str(self.directory),
            "targets": str(self.directory / TARGETS),
            "session": f"- {self.session / DISCOVERY}" if self.session else "# none",
            "prometheus": self.environment()["RAY_PROMETHEUS_HOST"],
            "port": str(self.grafana_port),
        }
        return {
            "prometheus.yml": _filled("prometheus.yml", values),
            "grafana/grafana.ini": _filled("grafana.ini", values),
            "grafana/provisioning/datasources/robustsearch.yml": _filled("datasource.yml", values),
            "grafana/provisioning/dashboards/robustsearch.yml": _filled("dashboards.yml", values),
            "grafana/dashboards/robustsearch.json": json.dumps(with_panels_of_ray(dashboard()), indent=1) + "\n",
            ENVIRONMENT: "".join(f"export {name}={value}\n" for name, value in self.environment().items()),
        }


def plan(
    directory: Path | None = None, *, prometheus_port: int = 9090, grafana_port: int = 3000, session: Path | None = None
) -> Monitoring:
    """Return what to write: by default to the directory that local launches look at.

    `session` is the folder of a Ray that others start; by default that of one which runs on this machine, if one does.

    Raises:
        SpecError: a path cannot stand in the settings, or both ports are the same.
    """
    usual = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "session_latest"
    session = session or (usual if usual.is_dir() else None)
    chosen = Monitoring(
        Path(os.path.abspath(directory or default_folder())),
        prometheus_port,
        grafana_port,
        Path(os.path.abspath(session)) if session else None,
    )
    for path in filter(None, (chosen.directory, chosen.session)):
        if not re.fullmatch(r"[\w/.+,@~-]+", str(path)):
            allowed = "use letters, digits and / . _ + , @ ~ -"
            raise SpecError(f"{str(path)!r} cannot stand in the settings of Grafana; {allowed}")
    if prometheus_port == grafana_port:
        raise SpecError(f"Prometheus and Grafana cannot both listen on port {grafana_port}; give two ports")
    return chosen


def write(chosen: Monitoring) -> list[Path]:
    """Write the settings, in the place of earlier ones, and return the files.

    Raises:
        OutputError: the directory has other files, or cannot be written to.
    """
    directory = chosen.directory
    if directory.is_dir() and any(directory.iterdir()) and not (directory / ENVIRONMENT).is_file():
        raise OutputError(f"{directory} contains other files; name a new directory")
    made = chosen.files()
    for private in (directory.parent, directory):
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in made.items():
        write_output(content.encode(), chosen.directory / name)
    (chosen.directory / TARGETS).mkdir(mode=0o700, exist_ok=True)
    return [chosen.directory / name for name in made]


def dashboard() -> dict[str, Any]:
    """Return the dashboard as it ships."""
    found: dict[str, Any] = json.loads(_template("robustsearch.json"))
    return found


def with_panels_of_ray(ours: dict[str, Any]) -> dict[str, Any]:
    """Return the dashboard with the panels of Ray's own below ours, under their ids, and the variables they use."""
    from ray.dashboard.modules.metrics import grafana_dashboard_factory

    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # It leaves a file open.
        rays = json.loads(grafana_dashboard_factory.generate_default_grafana_dashboard()[0])
    below = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in ours["panels"])
    for panel in rays["panels"]:
        panel["gridPos"]["y"] += below
    known = {variable["name"] for variable in ours["templating"]["list"]}
    more = [variable for variable in rays["templating"]["list"] if variable["name"] not in known]
    return {
        **ours,
        "panels": [*ours["panels"], *rays["panels"]],
        "templating": {"list": [*ours["templating"]["list"], *more]},
        "rayMeta": rays.get("rayMeta", []),
    }


def _template(name: str) -> str:
    return (resources.files("clusters") / "monitoring" / name).read_text(encoding="utf-8")


def _filled(name: str, values: dict[str, str]) -> str:
    return Template(_template(name)).substitute(values)
