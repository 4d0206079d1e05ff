"""What a person sees while a launch runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from search.cli import progress
from search.cli.progress import LiveView, render
from search.launch.view import PlainView
from tests.search.factories import SNAPSHOT


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_live_view_fits_its_terminal(width: int) -> None:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=True, color_system=None).print(render(SNAPSHOT))
    lines = [text.strip() for text in stream.getvalue().splitlines()]
    assert lines[0] == "mine"
    assert set(lines[1]) <= {"━", "╸", "╺", " "}
    assert lines[2].split() == ["6", "complete", "2", "running", "1", "failed", "11", "to", "come"]
    assert "14 measured, 5 on the front" in lines[3]
    assert lines[-1] == "time         1 min 5 s, about 2 min 10 s left"


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
