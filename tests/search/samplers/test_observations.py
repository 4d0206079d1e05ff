from __future__ import annotations

import pytest

from search.samplers.observations import Observation, ObservationStore

PARAMS = {"recipe.sparsity": 0.5}


def store() -> ObservationStore:
    """Trial 0 is complete with a point on its way, 1 has failed, 2 runs; a point of another study came first."""
    observations = ObservationStore()
    observations.add_transferred("other", PARAMS, [0.1, 0.5], [])
    for number in range(3):
        observations.begin(number, {"recipe.sparsity": number / 4}, {"trial": {"generation": number}})
    observations.end(1, "failed")
    observations.add_on_the_way(0, PARAMS, [0.2, 0.5], [])
    observations.end(0, "complete", [0.3, 0.0], [])
    return observations


def test_observations_keep_their_order_and_points_the_order_in_which_they_were_learned() -> None:
    observations = store()
    assert [(row.trial, row.origin, row.state) for row in observations] == [
        (None, "transferred", "complete"),
        (0, "own", "complete"),
        (1, "own", "failed"),
        (2, "own", "running"),
        (0, "on the way", "complete"),
    ]
    assert [row.values[0] for row in observations.learned()] == [0.1, 0.2, 0.3]
    assert (len(observations), observations.complete) == (5, 3)
    assert [number in observations for number in range(4)] == [True, True, True, False]


def test_a_point_on_the_way_has_the_attributes_of_its_trial() -> None:
    assert store()[4].attributes == {"trial": {"generation": 0}}


def test_changes_name_what_was_added_or_replaced_in_order() -> None:
    assert store().changes == [0, 1, 2, 3, 2, 4, 1]


def test_a_store_that_starts_with_some_counts_on() -> None:
    observations = store()
    again = ObservationStore(row for row in observations if row.state != "failed")
    assert (len(again), again.complete) == (4, 3)
    again.end(2, "complete", [0.4, 0.5], [])
    assert [row.order for row in again.learned()] == [1, 2, 3, 4]


def test_a_trial_ends_once() -> None:
    observations = store()
    with pytest.raises(AssertionError, match="has ended already"):
        observations.end(1, "complete", [0.1, 0.1], [])


def test_observations_are_records_that_nothing_changes() -> None:
    with pytest.raises(AttributeError):
        store()[0].trial = 7  # type: ignore[misc]
    assert Observation(0, PARAMS, "running") == Observation(0, PARAMS, "running")
