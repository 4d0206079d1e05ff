"""The gauges of a search, without Ray: what is published of a snapshot, under which tags."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.launch import gauges
from tests.search.factories import RUNNING, SNAPSHOT, point

Published = dict[str, dict[tuple[str, ...], float]]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Published:
    """What gauges hold, by name and tags other than the study."""
    held: Published = {}

    class Held:
        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
            self.values, self.keys = held.setdefault(name, {}), tag_keys

        def set(self, value: float, tags: dict[str, str]) -> None:
            assert tuple(tags) == self.keys
            assert tags["study"] == SNAPSHOT.study
            self.values[tuple(tags.values())[1:]] = value

    monkeypatch.setattr(gauges, "Gauge", Held)
    return held


def test_a_snapshot_is_published_and_what_is_not_known_is_left_out(published: Published) -> None:
    silent = replace(RUNNING, number=8, epoch=None, loss=None, robust_accuracy=None)
    front = (point(sparsity=0.0, robust_accuracy=0.8), point(sparsity=0.92, robust_accuracy=0.5))
    gauges.Gauges().set(
        replace(
            SNAPSHOT,
            trials=(replace(RUNNING, robust_accuracy=0.75), silent),
            front_points=front,
            failures={"oom": 2},
            epochs_trained=120,
            epochs_shared=30,
        )
    )
    states = {"complete": 6, "stopped": 0, "failed": 1, "running": 2, "waiting": 0, "to come": 11}
    assert published["robustsearch_trials"] == {(state,): count for state, count in states.items()}
    assert published["robustsearch_failures"] == {("oom",): 2}
    assert published["robustsearch_hypervolume"] == {(): 0.71234}
    assert published["robustsearch_front_points"] == {(): 5}
    assert published["robustsearch_best_robust_accuracy"] == {(): 0.85}
    reached = {("0",): 0.8, ("0.5",): 0.5, ("0.75",): 0.5, ("0.9",): 0.5}
    assert published["robustsearch_robust_accuracy_at_sparsity"] == reached
    assert published["robustsearch_epochs"] == {("trained",): 120, ("shared",): 30}
    assert published["robustsearch_seconds_left"] == {(): 130.0}
    assert published["robustsearch_trial_epoch"] == {("7",): 3}
    assert published["robustsearch_trial_done"] == {("7",): 0.25, ("8",): 0.25}
    assert published["robustsearch_trial_loss"] == {("7",): 0.51234}
    assert published["robustsearch_trial_robust_accuracy"] == {("7",): 0.75}


def test_at_the_start_nothing_is_made_up(published: Published) -> None:
    gauges.Gauges().set(replace(SNAPSHOT, best=None, remaining=None, front=0, hypervolume=0.0))
    empty = {name for name, values in published.items() if not values}
    assert empty == {
        "robustsearch_failures",
        "robustsearch_best_robust_accuracy",
        "robustsearch_robust_accuracy_at_sparsity",
        "robustsearch_seconds_left",
        *(f"robustsearch_trial_{what}" for what in ("epoch", "done", "loss", "robust_accuracy")),
    }
