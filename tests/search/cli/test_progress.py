"""What a person sees while a launch runs."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from search.cli import progress
from search.cli.progress import LiveView, render
from search.launch.tally import Snapshot
from search.launch.view import PlainView, duration, line
from tests.search.factories import point

SNAPSHOT = Snapshot(
    study="mine",
    target=20,
    complete=6,
    failed=1,
    running=2,
    points=14,
    front=5,
    hypervolume=0.71234,
    best=point(robust_accuracy=0.85, clean_accuracy=0.95, sparsity=0.5),
    elapsed=65.2,
    remaining=130.0,
)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_live_view_fits_its_terminal(width: int) -> None:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=True, color_system=None).print(render(SNAPSHOT))
    lines = [text.strip() for text in stream.getvalue().splitlines()]
    assert lines[0] == "mine"
    assert set(lines[1]) <= {"━", "╸", "╺", " "}
    assert lines[2].split() == ["6", "complete", "2", "running", "1", "failed", "11", "waiting"]
    assert "14 measured, 5 on the front" in lines[3]
    assert lines[-1] == "time         1 min 5 s, about 2 min 10 s left"


def test_a_line_says_what_counts() -> None:
    said = line(SNAPSHOT)
    assert said.startswith("6/20 trials complete, 1 failed, 2 running; 14 points, 5 on the front, hypervolume 0.7123")
    assert said.endswith("best robust accuracy 0.850; 1 min 5 s, 2 min 10 s left")
    assert "failed" not in line(replace(SNAPSHOT, failed=0))
    assert "best" not in line(replace(SNAPSHOT, best=None))


def test_plain_lines_come_with_trials_and_now_and_then() -> None:
    stream = io.StringIO()
    with PlainView(stream, every=30.0) as view:
        view(SNAPSHOT)
        view(replace(SNAPSHOT, elapsed=66.0))
        view(replace(SNAPSHOT, elapsed=67.0, complete=7))
        view(replace(SNAPSHOT, elapsed=96.9, complete=7))
        view(replace(SNAPSHOT, elapsed=97.0, complete=7))
    assert [text.split()[0] for text in stream.getvalue().splitlines()] == ["6/20", "7/20", "7/20"]
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(
    ("environment", "quiet", "live"),
    [
        ({"FORCE_COLOR": "1", "TERM": "xterm"}, False, True),
        ({"FORCE_COLOR": "1", "TERM": "xterm"}, True, False),
        ({"FORCE_COLOR": "1", "TERM": "xterm", "NO_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False, False),
        ({}, False, False),
    ],
)
def test_the_view_is_live_in_a_terminal_alone(
    environment: dict[str, str], quiet: bool, live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert isinstance(progress.view(quiet), LiveView if live else PlainView)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min 0 s"), (3661, "1 h 1 min"), (90_000, "1 d 1 h")]
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
