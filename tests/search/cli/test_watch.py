"""Watching a search: as one answer, as lines, in a terminal of any size, and as a page."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from search.cli.progress import Panel
from search.results.study import Study
from tests.integration.waiting import wait_for
from tests.search.command import run
from tests.search.factories import RUNNING, SNAPSHOT, make_study, point
from tests.search.tiny import FIELDS

ROOT = Path(__file__).parents[3]
"""Of the sources, which processes import from."""
FRONT = tuple(
    point(at, key=str(at), robust_correct=correct, robust_accuracy=correct / 360, sparsity=sparsity)
    for at, (correct, sparsity) in enumerate([(306, 0.0), (216, 0.9), (36, 0.99)])
)
BUSY = replace(
    SNAPSHOT,
    issued=10,
    rate=42.4,
    driver="process 7 on node-1",
    trials=tuple(replace(RUNNING, number=number, host="a-long-name-of-a-node.example") for number in range(20)),
    front_points=FRONT,
    objectives=("robust_accuracy", "sparsity"),
)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("storage")
    make_study(root / "synthetic", 6)
    return root


def test_one_look_is_the_same_for_people_and_programs(storage: Path) -> None:
    shown = run("watch", "synthetic", "--once", "--storage", storage)
    assert shown.exit_code == 0
    now = Study.open(str(storage / "synthetic")).progress()
    assert f"hypervolume   {now.hypervolume:.4f}\n" in shown.stdout
    assert "robust accuracy (%) against sparsity (%)" in shown.stdout
    assert "\x1b" not in shown.stdout
    state = json.loads(run("watch", "synthetic", "--json", "--storage", storage).stdout)
    status = json.loads(run("status", "synthetic", "--json", "--storage", storage).stdout)
    assert {**state, "job": None} == status


def test_a_study_whose_launch_is_over_is_shown_once(storage: Path) -> None:
    result = run("watch", "synthetic", "--storage", storage)
    assert result.exit_code == 0
    assert result.stdout.count("hypervolume") == 1
    assert "no launch is running" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("synthetic", "--port", "80"), "add --web"),
        (("synthetic", "--web", "--once"), "exclude each other"),
        (("synthetic", "--web", "--port", "70000"), "70000"),
        (("nothing", "--once"), "there is no study 'nothing'"),
        (("../x",), "name"),
    ],
)
def test_bad_arguments_are_refused(storage: Path, arguments: tuple[str, ...], reason: str) -> None:
    result = run("watch", *arguments, "--storage", storage)
    assert result.exit_code == 2
    assert reason in result.stderr


@pytest.mark.parametrize("size", [(40, 12), (40, 24), (80, 24), (120, 50)])
@pytest.mark.parametrize("plain", [True, False])
def test_a_panel_fits_its_terminal(size: tuple[int, int], plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "linux" if plain else "xterm")
    width, height = size
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(Panel(BUSY, "a note"))
    rows = captured.get().splitlines()
    assert max(map(len, rows)) <= width
    assert "a note" in captured.get()
    assert re.search(r"0 +train 3/20", captured.get()), "the trials that run come before the plot"
    assert ("●" in captured.get()) <= (not plain)
    if height >= 24:
        assert len(rows) <= height
    if height == 50:
        assert len([row for row in rows if "●" in row or (plain and "|" in row)]) >= 3


def terminal(size: tuple[int, int], *arguments: str, **environment: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start the command in a terminal of its own, and return it with the side that a person sees."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "search.console", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        env={**clean, "TERM": "xterm", "PYTHONUNBUFFERED": "1", **environment},
        start_new_session=True,
    )
    os.close(theirs)
    return process, ours


ENDED = "\0"
"""What no terminal shows: it is read until its process has left it."""


def seen(side: int, until: str, seconds: float = 60.0) -> str:
    """Return what a terminal shows until it shows a text, or its process has left it."""
    text, limit = b"", time.monotonic() + seconds
    while until.encode() not in text and time.monotonic() < limit:
        if select.select([side], [], [], 0.1)[0]:
            try:
                part = os.read(side, 65536)
            except OSError:
                break
            if not part:
                break
            text += part
    return text.decode(errors="replace")


LAUNCH = """
import json, sys
import search
search.launch(json.loads(sys.argv[1]), cluster="inline", storage=sys.argv[2], quiet=True)
"""


def launched(storage: Path, **fields: object) -> subprocess.Popen[bytes]:
    study = {**FIELDS, **fields}
    command = [sys.executable, "-W", "ignore", "-c", LAUNCH, json.dumps(study), str(storage)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_a_launch_is_seen_by_other_processes_and_its_death_is_said(tmp_path: Path) -> None:
    watcher, side = terminal((80, 24), "watch", "tiny", "--storage", str(tmp_path))
    text = seen(side, "was not launched yet")
    launch = launched(tmp_path, recipe={**FIELDS["recipe"], "epochs": 100_000})
    try:
        text += seen(side, "/100000")
        assert "train" in text
        assert "\x1b[?1049h" in text, "it fills the screen"
        study = Study.open(str(tmp_path / "tiny"))
        first = _epoch(study, 1)
        assert _epoch(study, first + 1) > first, "it moves on"
        state = json.loads(run("status", "tiny", "--json", "--storage", tmp_path).stdout)
        assert (state["running"], state["waiting"], len(state["running_trials"])) == (1, 0, 1)
        assert "1 running, 3 to come" in run("status", "tiny", "--storage", tmp_path).stdout
    finally:
        launch.kill()
        launch.wait()
    text = seen(side, ENDED)
    assert watcher.wait(30) == 0
    assert "\x1b[?1049l" in text, "the screen is given back"
    assert f"the launch was killed: process {launch.pid} on" in text.replace("\r\n", "")
    os.close(side)
    assert "it was killed" in run("status", "tiny", "--storage", tmp_path).stdout
    assert study.running() == []


def _epoch(study: Study, least: int) -> int:
    """Wait until the running trial has trained so many epochs."""
    limit = time.monotonic() + 60.0
    while time.monotonic() < limit:
        for trial in study.running():
            if trial.epoch is not None and trial.epoch >= least and trial.phase == "train":
                assert trial.loss is not None
                assert trial.host
                return trial.epoch
        time.sleep(0.05)
    raise AssertionError("no epoch was reported")


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_a_capable_terminal_lines_are_printed_and_a_signal_ends_them(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    launch = launched(tmp_path, recipe={**FIELDS["recipe"], "epochs": 100_000})
    wait_for((tmp_path / "tiny" / "study.yaml").exists, 60)
    _epoch(Study.open(str(tmp_path / "tiny")), 1)  # The lines after the first come half a minute later.
    watcher, side = terminal((80, 24), "watch", "tiny", "--storage", str(tmp_path), **environment)
    try:
        text = seen(side, "trial 0: ")
        assert "0/4 trials complete, 1 running" in text.replace("\r\n", "")
        assert "\x1b" not in text
        watcher.send_signal(signal.SIGINT)
        assert "the search is not affected" in seen(side, ENDED)
        assert watcher.wait(30) == 130
        assert launch.poll() is None
    finally:
        launch.kill()
        launch.wait()
        os.close(side)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_page_is_served_until_a_signal(storage: Path, number: int) -> None:
    command = [sys.executable, "-m", "search.console", "watch", "synthetic", "--web", "--storage", str(storage)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    with urllib.request.urlopen(url, timeout=30) as page:
        assert b"synthetic: robustsearch report" in page.read()
    process.send_signal(number)
    rest, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert rest == ""
    assert said.splitlines()[-1] == "stopped watching synthetic; the search is not affected"
