"""How the autoscaler's word is read that no type of node has what was asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from search.cluster import autoscaler
from search.cluster.autoscaler import Refusals


def status(version: int, seen: int, refused: int) -> Any:
    """What the cluster says: the version of its state, the one that the autoscaler has seen, and its refusals."""
    return SimpleNamespace(
        cluster_resource_state=SimpleNamespace(cluster_resource_state_version=version),
        autoscaling_state=SimpleNamespace(
            last_seen_cluster_resource_state_version=seen, infeasible_cluster_resource_constraints=[None] * refused
        ),
    )


@pytest.mark.parametrize(
    ("later", "found"),
    [
        (status(12, 9, 1), False),  # Of an older request.
        (status(12, 10, 1), False),
        (status(12, 11, 1), True),
        (status(12, 11, 0), False),
        (None, False),
    ],
)
def test_only_what_was_said_after_the_request_counts(monkeypatch: pytest.MonkeyPatch, later: Any, found: bool) -> None:
    monkeypatch.setattr(autoscaler, "_status", lambda: status(10, 8, 1))
    refusals = Refusals()
    monkeypatch.setattr(autoscaler, "_status", lambda: later)
    assert refusals.found() is found


def test_an_autoscaler_that_says_nothing_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaler, "_status", lambda: None)
    refusals = Refusals()
    monkeypatch.setattr(autoscaler, "_status", lambda: status(12, 11, 1))
    assert not refusals.found()
