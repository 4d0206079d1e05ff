"""What the Ray dashboard shows of a launch, and how one gets in: actors, calls, processes and logs by their trials."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import psutil
import pytest
from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT

from benchmarks.nodes import title
from tests.integration.waiting import wait_for
from tests.search.tiny import TINY, outcomes

pytestmark = [pytest.mark.ray, pytest.mark.slow]

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
SETTINGS = r"sparsity=[\d.]+ eps=0\.\d+"
TRIAL = re.compile(rf"tiny-(\d{{5}}) {SETTINGS}")
WORK = re.compile(rf"tiny-\d{{5}} (starts|train( \d+/20)?|prune|rewind|measure|waits|ends) {SETTINGS}")
SAMPLES = 100
"""How often the titles of the workers are looked at."""


class Dashboard:
    """A dashboard of Ray, in a browser that keeps the cookie of its login."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._cookie = ""

    def log_in(self, token: str) -> None:
        request = urllib.request.Request(f"{self._url}/api/authenticate", data=b"", method="POST")
        request.add_header("Authorization", f"Bearer {token}")
        headers: Message = DIRECT.open(request, timeout=60).headers
        self._cookie = headers["Set-Cookie"].partition(";")[0]

    def get(self, path: str) -> Any:
        return json.loads(self.read(path))["data"]

    def read(self, path: str) -> str:
        request = urllib.request.Request(f"{self._url}{path}")
        if self._cookie:
            request.add_header("Cookie", self._cookie)
        text: str = DIRECT.open(request, timeout=60).read().decode()
        return text


def workers(launch: subprocess.Popen[str]) -> Iterator[tuple[psutil.Process, str]]:
    """Yield the processes that run trials, with their titles."""
    for process in psutil.Process(launch.pid).children(recursive=True):
        name = title(process)
        if "RobustsearchTrial" in name or "tiny-" in name:
            yield process, name


@pytest.fixture
def usual_agent_port() -> Iterator[None]:
    """The usual port of a dashboard's agent is in use, as where another Ray runs."""
    with socket.socket() as busy:
        with suppress(OSError):  # Another Ray runs.
            busy.bind(("127.0.0.1", DEFAULT_DASHBOARD_AGENT_LISTEN_PORT))
            busy.listen()
        yield


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("usual_agent_port")
def test_the_dashboard_shows_trials_by_name(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY.replace("epochs: 4", "epochs: 20"))
    (tmp_path / "two.yaml").write_text("kind: local\ncpus: 2\n")
    launch = start("launch", "tiny.yaml", "--cluster", "two.yaml", "--trials", "500", HOME=str(tmp_path))
    assert launch.stderr is not None
    said = next(line for line in launch.stderr if line.startswith("Ray dashboard"))
    found = re.fullmatch(r"Ray dashboard: (\S+); its login asks for the token that `(cat \S+)` prints\n", said)
    assert found, said
    dashboard = Dashboard(found[1])
    with pytest.raises(HTTPError, match="401"):
        dashboard.get("/logical/actors")
    dashboard.log_in(subprocess.run(found[2].split(), capture_output=True, text=True, check=True).stdout)

    wait_for(lambda: len(outcomes(tmp_path / "runs" / "tiny")) >= 4, 300)
    start.remember()  # type: ignore[attr-defined]
    titles: Counter[bool] = Counter()
    while titles.total() < SAMPLES:
        titles.update(WORK.search(name) is not None for _, name in workers(launch))
        time.sleep(0.05)
    # The rest is Tune's time between two trials, which a busy machine lengthens.
    assert titles[True] > 0.6 * titles.total(), titles
    logs = [Path(os.readlink(f"/proc/{process.pid}/fd/1")).read_text() for process, _ in workers(launch)]
    assert all(re.search(r"^trial \d+ train 20/20 loss \S+ accuracy \S+ \S+ s$", log, re.M) for log in logs)
    assert any(re.search(r"^trial \d+ complete, \d+ points?, \S+ s$", log, re.M) for log in logs)

    actors = list(dashboard.get("/logical/actors")["actors"].values())
    assert actors
    assert all(re.fullmatch(r"tiny worker \d+ \(job \d+\)", actor["name"]) for actor in actors), actors
    assert {actor["reprName"] for actor in actors if actor["state"] == "ALIVE"} == {"tiny worker"}
    (actor, *_) = (actor["actorId"] for actor in actors if actor["state"] == "ALIVE")
    log = dashboard.read(f"/api/v0/logs/file?actor_id={actor}&suffix=out&lines=100&format=text")
    assert re.search(r"^trial \d+ train \d+/20 loss ", log, re.M), log
    calls = dashboard.get("/api/v0/tasks?limit=10000")["result"]["result"]
    shown = {found[1] for call in calls if (found := TRIAL.fullmatch(call["name"]))}
    assert len(shown) > len(actors), "a worker that runs one trial after another shows each"

    launch.send_signal(signal.SIGINT)
    out, err = launch.communicate(timeout=120)
    assert launch.returncode == 130, err
    assert not re.search(r"trial \d+ train \d+/20 loss", out + err), "the log of workers is not for the terminal"
