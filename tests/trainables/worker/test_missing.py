"""What is left to compute of a trial, given what is stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

from tests.trainables.factories import trial
from trainables.method.phases import Measure, Train
from trainables.recipes.trial import KeyedPhase, keyed_phases
from trainables.worker.missing import compared_trainings, missing, rewind_source, stored_snapshots


def phases(**recipe: Any) -> tuple[KeyedPhase, ...]:
    """Init, train, measure, then twice prune, rewind, train, measure."""
    return keyed_phases(trial(**recipe), "fingerprint")


def left(chain: tuple[KeyedPhase, ...], stored: Collection[int], measured: Collection[int], **more: Any) -> list[int]:
    """Return which phases are left by their indices, given the indices of those that are stored and measured."""
    states = {chain[index].key for index in stored}
    points = {chain[index].key for index in measured}

    def is_stored(keyed: KeyedPhase, snapshots: Iterable[int]) -> bool:
        return keyed.key in states

    found = missing(chain, is_stored, lambda keyed: keyed.key in points, **more)
    return [index for index, keyed in enumerate(chain) if keyed.key in found]


def test_without_anything_stored_all_is_left() -> None:
    chain = phases()
    assert [keyed.phase.kind for keyed in chain] == [
        *("init", "train", "measure"),
        *("prune", "rewind", "train", "measure") * 2,
    ]
    assert left(chain, (), ()) == list(range(11))


def test_with_all_measured_nothing_is_left_whatever_is_stored() -> None:
    assert left(phases(), (), (2, 6, 10)) == []


def test_a_trial_resumes_from_the_last_stored_stage() -> None:
    assert left(phases(rewind="none"), (3,), (2,)) == [4, 5, 6, 7, 8]


def test_a_rewind_needs_its_source_again() -> None:
    assert left(phases(), (3,), (2, 10)) == [0, 1, 4, 5, 6], "the first training, whose snapshot is missing"
    assert left(phases(rewind="init"), (3,), (2, 10)) == [0, 4, 5, 6]
    assert left(phases(rewind="random"), (3,), (2, 10)) == [4, 5, 6]


@pytest.mark.parametrize(
    ("rewind", "source"), [("init", (0, ())), (2, (1, (2,))), ("dense_trained", (1, ())), ("random", None)]
)
def test_the_source_of_a_rewind(rewind: object, source: tuple[int, tuple[int, ...]] | None) -> None:
    chain = phases(rewind=rewind)
    expected = None if source is None else (chain[source[0]], source[1])
    assert rewind_source(chain[4], chain) == expected
    assert rewind_source(chain[1], chain) is None


def test_compared_trainings_are_the_last_one_and_the_first() -> None:
    chain = phases()
    assert compared_trainings(chain[6], chain) == (chain[5], chain[1])
    assert compared_trainings(chain[2], chain) is None, "there is one training alone"
    assert compared_trainings(chain[3], chain) is None
    measures = [keyed for keyed in chain if isinstance(keyed.phase, Measure)]
    assert len(measures) == 3


def test_a_comparison_needs_the_snapshots_of_both_trainings() -> None:
    chain = phases(rewind="none")
    assert left(chain, (1, 4), (2,), follows=(1,)) == [5, 6, 7, 8]
    assert left(chain, (4,), (2, 8), follows=(1,)) == [0, 1, 5], "the first training is compared too"
    training = chain[1]
    assert isinstance(training.phase, Train)
    kept = KeyedPhase(training.phase.model_copy(update={"snapshots": (1, 2)}), training.key, training.parent)
    assert stored_snapshots(kept, (2, 5)) == (2,)
    assert stored_snapshots(chain[0], (2,)) == ()
