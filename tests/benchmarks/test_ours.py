"""What our search trains in the simulator, against a count from the records' own phases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ours import DATA_HASH, Ours, Parts
from simulator import Ledger, simulate

from search.early_stopping.moasha import Moasha
from search.samplers.optuna import RandomSearch
from search.store.records import Records
from tests.benchmarks import made
from trainables.method.phases import Train
from trainables.recipes.trial import TrialSpec, keyed_phases
from trainables.store.storage import Storage


def searched(folder: Path, workers: int, trials: int = 20, **parts: Any) -> tuple[Ledger, Records]:
    ledger = Ledger()
    storage = Storage(str(folder)).child("study")
    method = Ours(made.curves(), ledger, Parts(RandomSearch(), **parts), 0, storage, workers, trials)
    simulate(method, ledger, workers=workers, epochs=10**6, goal=2.0)
    return ledger, Records.open(storage)


def trainings(records: Records) -> list[tuple[str, int]]:
    """Every training of every trial: its key and its epochs."""
    chains = [keyed_phases(TrialSpec.model_validate(record.spec), DATA_HASH) for record, _ in records.trials()]
    return [(s.key, s.phase.epochs - s.phase.start) for c in chains for s in c if isinstance(s.phase, Train)]


def test_one_worker_trains_every_stage_once(tmp_path: Path) -> None:
    ledger, records = searched(tmp_path, workers=1)
    assert ledger.epochs == ledger.time == sum(dict(trainings(records)).values())
    outcomes = [outcome for _, outcome in records.trials()]
    assert all(outcome is not None and outcome.state == "complete" for outcome in outcomes)
    whole = sum(epochs for _, epochs in trainings(records))
    last = [outcome.points[-1] for outcome in outcomes if outcome]
    assert sum(p.epochs_trained for p in last) == ledger.epochs
    assert sum(p.epochs_trained + p.epochs_shared for p in last) == whole


def test_many_workers_train_every_stage_once_where_it_is_planned(tmp_path: Path) -> None:
    ledger, records = searched(tmp_path / "planned", workers=8)
    once = sum(dict(trainings(records)).values())
    assert ledger.epochs == once
    unplanned, records = searched(tmp_path / "unplanned", workers=8, planning=False)
    assert sum(dict(trainings(records)).values()) < unplanned.epochs


def test_without_sharing_every_trial_trains_all_of_its_chain(tmp_path: Path) -> None:
    ledger, records = searched(tmp_path, workers=3, sharing=False)
    assert ledger.epochs == sum(epochs for _, epochs in trainings(records))
    assert ledger.time >= ledger.epochs / 3


@pytest.mark.parametrize("points", [True, False])
def test_all_points_are_recorded_unless_that_part_is_off(tmp_path: Path, points: bool) -> None:
    _, records = searched(tmp_path, workers=2, points=points)
    for record, outcome in records.trials():
        assert outcome is not None
        assert len(outcome.points) == (made.rounds(record.params["recipe.sparsity"]) + 1 if points else 1)
        assert outcome.points[-1].sparsity == pytest.approx(record.params["recipe.sparsity"])


def test_a_trial_that_is_stopped_trains_no_further(tmp_path: Path) -> None:
    stopping = Moasha(grace=2, eta=2, max_rungs=3)
    ledger, records = searched(tmp_path, workers=2, sharing=False, early_stopping=stopping)
    states = {outcome.state for _, outcome in records.trials() if outcome}
    assert states == {"complete", "stopped"}
    trained = 0
    for record, outcome in records.trials():
        assert outcome is not None
        if outcome.state == "complete":
            trained += made.DENSE_EPOCHS + made.ROUND_EPOCHS * made.rounds(record.params["recipe.sparsity"])
        else:
            seen = [rung.resource for rung in outcome.rungs] + [point.epochs_trained for point in outcome.points]
            trained += max(seen)
    assert ledger.epochs == trained
