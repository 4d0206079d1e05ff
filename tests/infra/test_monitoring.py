"""The shipped dashboard on a real Prometheus that scrapes a real launch, and the launch that resumes it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from search.launch import monitoring
from search.results.progress import epochs_of
from search.results.study import Study
from tests.infra.services import DIRECT, Prometheus
from tests.search.tiny import TINY

pytestmark = pytest.mark.infra

TRIALS = 400
STUDY = TINY.replace("epochs: 4", "epochs: 150").replace("optimiser: adam", "optimiser: {kind: sgd, lr: 0.1}")
STUDY += "abort_after: 50\n"
STUDY = STUDY.replace(
    "space:", "space:\n  recipe.train.optimiser.lr: {kind: categorical, choices: [0.1, 0.05, 1.0e+30]}"
)
"""Its trainings last for seconds, so that their losses are seen, and some of its trials diverge."""
TITLES = {panel["title"] for panel in monitoring.dashboard()["panels"] if panel["type"] != "row"}
SECONDS = 240.0
"""How long the slowest machine may take to start Ray and to end some trials."""

NEVER_FALL = (
    "Complete",
    "Failed",
    "Failures by class",
    "Hypervolume",
    "Front over time: robust accuracy from a sparsity on",
)
"""Panels of counts and of the front, which only grows."""

Answers = dict[str, list[dict[str, Any]]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home of its own, and metrics that are exported each second instead of every ten."""
    (tmp_path / "home").mkdir()
    return {**os.environ, "HOME": str(tmp_path / "home"), "RAY_metrics_report_interval_ms": "1000"}


@pytest.fixture
def grafana() -> Iterator[int]:
    """The port of a stand-in for Grafana, which says that it is well; Grafana itself is in no registry."""

    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"database": "ok"}')

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def configuration(environment: dict[str, str], tmp_path: Path, grafana: int) -> Path:
    """What `robustsearch monitoring` writes for Prometheus, with shorter pauses."""
    words = [str(Path(sys.executable).parent / "robustsearch"), "monitoring", "--grafana-port", str(grafana)]
    subprocess.run(words, env=environment, cwd=tmp_path, check=True, timeout=120)
    path = tmp_path / "home" / ".robustsearch" / "monitoring" / "prometheus.yml"
    path.write_text(re.sub(r"(scrape|refresh)_interval: \d+s", r"\1_interval: 1s", path.read_text()))
    return path


@contextmanager
def launched(environment: dict[str, str], folder: Path) -> Iterator[Path]:
    """Run the study in the background until the block ends; then it is stopped as by Ctrl-C."""
    (folder / "tiny.yaml").write_text(STUDY)
    (folder / "two.yaml").write_text("kind: local\ncpus: 2\n")
    words = ["launch", "tiny.yaml", "--cluster", "two.yaml", "--trials", str(TRIALS)]
    log = folder / "launch.log"
    with log.open("w") as out:
        launch = subprocess.Popen(
            [str(Path(sys.executable).parent / "robustsearch"), *words],
            env=environment,
            cwd=folder,
            stdout=out,
            stderr=out,
        )
        try:
            yield log
        except BaseException as error:
            error.add_note(log.read_text())
            raise
        finally:
            launch.send_signal(signal.SIGINT)
            try:
                code = launch.wait(timeout=120)
            finally:
                launch.kill()
    assert code == 130, log.read_text()


def embedded(log: Path, token: Path) -> dict[str, Any]:
    """Return what the dashboard of Ray embeds, as it tells the browser."""
    (url,) = re.findall(r"Ray dashboard: (\S+);", log.read_text())
    request = urllib.request.Request(f"{url}/api/grafana_health")
    request.add_header("Authorization", f"Bearer {token.read_text()}")
    found: dict[str, Any] = json.load(DIRECT.open(request, timeout=60))["data"]
    return found


def until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not ready():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(1)


def panels(server: Prometheus) -> Answers:
    """Return what each panel of the shipped dashboard shows now, by title, with all studies chosen."""
    found: Answers = {}
    for panel in monitoring.dashboard()["panels"]:
        for target in panel.get("targets", ()):
            found[panel["title"]] = server.query(target["expr"].replace("$study", ".+"))
    return found


def filled(server: Prometheus) -> Answers:
    """Wait until each panel that can shows something, and return it."""
    never = set() if torch.cuda.is_available() else {"GPU use"}
    seen: Answers = {}

    def complete() -> bool:
        seen.update({title: answer for title, answer in panels(server).items() if answer})
        return not TITLES - never - set(seen)

    try:
        until(complete)
    except AssertionError as error:
        error.add_note(f"empty: {TITLES - set(seen)}")
        raise
    return seen


def histories(server: Prometheus, began: float) -> dict[str, dict[str, dict[float, float]]]:
    """Return what each panel has shown since a time: by title, by the labels of a series, and by second."""
    found = {}
    for panel in monitoring.dashboard()["panels"]:
        for target in panel.get("targets", ()):
            answer = server.history(target["expr"].replace("$study", ".+"), began)
            series = {json.dumps(each["metric"], sort_keys=True): each["values"] for each in answer}
            found[panel["title"]] = {key: {at: float(shown) for at, shown in values} for key, values in series.items()}
    return found


def value(answer: list[dict[str, Any]], **labels: str) -> float:
    """Return the value of the one series of an answer that has these labels."""
    (found,) = [float(series["value"][1]) for series in answer if labels.items() <= series["metric"].items()]
    return found


@pytest.mark.timeout(900)
def test_every_panel_shows_a_launch_and_the_one_that_resumes_it(
    prometheus: Callable[[Path], AbstractContextManager[Prometheus]],
    environment: dict[str, str],
    configuration: Path,
    grafana: int,
    tmp_path: Path,
) -> None:
    complete = 'max by (study, state) (ray_robustsearch_trials{study=~".+", state="complete"})'
    every = 'last_over_time(ray_robustsearch_trials{state="complete"}[1h])'
    began = time.time()
    with prometheus(configuration) as server:
        with launched(environment, tmp_path) as log:
            first = filled(server)
            until(lambda: "0" not in {s["metric"]["trial"] for s in server.query("ray_robustsearch_trial_done")})
            (url,) = re.findall(r"metrics for Prometheus: (http://127\.0\.0\.1:\d+/metrics)", log.read_text())
            assert "ray_robustsearch_hypervolume{" in DIRECT.open(url, timeout=30).read().decode()
            shown = embedded(log, tmp_path / "home" / ".robustsearch" / "ray_token")
            assert shown["grafanaHost"] == f"http://127.0.0.1:{grafana}"
            assert shown["dashboardUids"]["default"] == monitoring.dashboard()["uid"]
            done = value(server.query(complete))
        assert not list((configuration.parent / "targets").iterdir()), "a launch that is over is not listed"
        until(lambda: not server.query(complete))
        assert {series["metric"]["failure"] for series in first["Failures by class"]} == {"diverged"}
        with launched(environment, tmp_path):
            until(lambda: len(server.query(every)) == 2)
            second = filled(server)
            assert value(server.query(complete)) >= done, "a resumed launch counts on"
            assert len(server.query(f"max by (study, state) ({every})")) == 1, "and in the same series"
            for answer in (first["Trials by state"], second["Trials by state"]):
                assert len(answer) == 6
                assert sum(float(series["value"][1]) for series in answer) == TRIALS
            until(lambda: value(server.query(complete)) > done)
            history = histories(server, began)
        study = Study.open(str(tmp_path / "runs" / "tiny"))
    assert value(first["Hypervolume"]) <= study.hypervolume() + 1e-6
    assert value(second["Hypervolume"]) <= study.hypervolume() + 1e-6
    for title in NEVER_FALL:
        for labels, values in history[title].items():
            assert list(values.values()) == sorted(values.values()), f"{title} {labels} falls when the launch resumes"
    states, epochs = history["Trials by state"], history["Epochs trained and shared"]
    assert len(states) == 6, "both launches in the same series"
    sums = [sum(counts[at] for counts in states.values()) for at in set.intersection(*map(set, states.values()))]
    # Gauges are set one after the other: between two, a trial may be seen in two states, or in none.
    assert all(abs(total - TRIALS) <= 2 for total in sums), "none is counted twice"
    outcomes = [outcome for _, outcome in study.records.trials() if outcome]
    longest = max(sum(epochs_of(outcome)) for outcome in outcomes)
    for counts in epochs.values():  # Not every epoch of a running trial is saved: some are trained again.
        assert all(after >= before - 2 * longest for before, after in pairwise(counts.values())), "epochs start anew"
    assert value(second["Complete"]) <= sum(outcome.state == "complete" for outcome in outcomes)
