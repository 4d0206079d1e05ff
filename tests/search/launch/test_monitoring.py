"""The settings of Prometheus and Grafana: what is written, that they fit together, and the dashboard that ships."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from search.cluster import monitoring as folder
from search.launch import gauges, monitoring
from search.results.exporters.output import OutputError
from trainables.core.errors import SpecError

BUILT_IN = {"datasource", "study"}


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    return monitoring.with_panels_of_ray(monitoring.dashboard())


@pytest.fixture
def settings(tmp_path: Path) -> monitoring.Monitoring:
    chosen = monitoring.plan(
        tmp_path / "made", prometheus_port=19, grafana_port=20, session=tmp_path / "ray" / "session_latest"
    )
    monitoring.write(chosen)
    return chosen


def yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


def queries(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_what_is_written_fits_together(settings: monitoring.Monitoring, tmp_path: Path) -> None:
    made = tmp_path / "made"
    (scrape,) = yaml(made / "prometheus.yml")["scrape_configs"]
    (found,) = scrape["file_sd_configs"]
    assert found["files"] == [f"{made}/targets/*.json", f"{tmp_path}/ray/session_latest/{folder.DISCOVERY}"]
    assert (made / "targets").is_dir()
    provisioning = made / "grafana" / "provisioning"
    (source,) = yaml(provisioning / "datasources" / "robustsearch.yml")["datasources"]
    assert (source["name"], source["url"]) == ("Prometheus", "http://127.0.0.1:19")
    (provider,) = yaml(provisioning / "dashboards" / "robustsearch.yml")["providers"]
    (board,) = Path(provider["options"]["path"]).iterdir()
    ini = (made / "grafana" / "grafana.ini").read_text()
    assert f"provisioning = {provisioning}\n" in ini
    assert "http_addr = 127.0.0.1\nhttp_port = 20\n" in ini
    environment = dict(re.findall(r"export (\w+)=(\S+)", (made / folder.ENVIRONMENT).read_text()))
    assert environment == {
        "RAY_PROMETHEUS_HOST": "http://127.0.0.1:19",
        "RAY_GRAFANA_HOST": "http://127.0.0.1:20",
        "RAY_GRAFANA_DEFAULT_DASHBOARD_UID": json.loads(board.read_text())["uid"],
    }
    prometheus, grafana = settings.commands()
    assert f"--config.file={made}/prometheus.yml" in prometheus
    assert "--web.listen-address=127.0.0.1:19" in prometheus
    assert grafana.endswith(f"--config {made}/grafana/grafana.ini")


def test_it_is_written_anew_but_not_over_files_of_something_else(
    settings: monitoring.Monitoring, tmp_path: Path
) -> None:
    (tmp_path / "made" / "prometheus.yml").write_text("edited")
    monitoring.write(settings)
    assert "scrape_configs" in (tmp_path / "made" / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text("of something else")
    with pytest.raises(OutputError, match="contains other files; name a new directory"):
        monitoring.write(monitoring.plan(tmp_path))
    assert (tmp_path / "prometheus.yml").read_text() == "of something else"


def test_what_cannot_stand_in_the_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot stand in the settings"):
        monitoring.plan(tmp_path / "a directory")
    with pytest.raises(SpecError, match="both listen on port 3000"):
        monitoring.plan(tmp_path, prometheus_port=3000)


def test_panels_have_ids_places_and_queries_of_their_own(shown: dict[str, Any]) -> None:
    panels = shown["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) == 23
    for panel in monitoring.dashboard()["panels"]:
        assert panel["title"]
        assert panel["type"] == "row" or (panel["description"] and panel["targets"])
        for target in panel.get("targets", []):
            assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_every_variable_of_a_query_is_one_of_the_dashboard(shown: dict[str, Any]) -> None:
    known = {variable["name"] for variable in shown["templating"]["list"]}
    assert {variable["name"] for variable in monitoring.dashboard()["templating"]["list"]} == BUILT_IN <= known
    used = {name for query in queries(monitoring.dashboard()) for name in re.findall(r"\$\{?(\w+)", query)}
    assert used == {"study"}
    assert {name for query in queries(shown) for name in re.findall(r"\$\{?(\w+)", query)} <= known


def test_every_gauge_is_shown_and_none_that_is_not_there() -> None:
    source = Path(gauges.__file__).read_text()
    published = {f"ray_{name}" for name in re.findall(r'Gauge\(\s*"(\w+)"', source)}
    shown = {name for query in queries(monitoring.dashboard()) for name in re.findall(r"ray_robustsearch_\w+", query)}
    assert shown == published


def test_the_launches_of_a_study_are_one_series() -> None:
    """Sessions, processes and nodes of Ray have labels of their own, which change when a study is resumed."""
    for query in queries(monitoring.dashboard()):
        if "ray_robustsearch" in query:
            assert re.match(r'(sort\()?max by \(study(, \w+)?\) \(ray_robustsearch_\w+\{study=~"\$study"', query), query


def test_rays_own_panels_keep_the_ids_by_which_its_pages_embed_them(shown: dict[str, Any]) -> None:
    titles = {panel["id"]: panel["title"] for panel in shown["panels"]}
    assert (titles[24], titles[41]) == ("Node Count", "Cluster Utilization")
    assert shown["uid"] == "robustsearch"
