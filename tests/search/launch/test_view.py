"""How far a launch is, as text."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from search.launch.view import PlainView, duration, line
from tests.search.factories import SNAPSHOT


def test_a_line_says_what_counts() -> None:
    said = line(SNAPSHOT)
    assert said.startswith("6/20 trials complete, 1 failed, 2 running; 14 points, 5 on the front, hypervolume 0.7123")
    assert said.endswith("best robust accuracy 0.850 [0.809, 0.883] of 360; 1 min 5 s, 2 min 10 s left")
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
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min 0 s"), (3661, "1 h 1 min"), (90_000, "1 d 1 h")]
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
