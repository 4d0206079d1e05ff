from __future__ import annotations

from datetime import datetime
from pathlib import Path

import torch

from search.results.exporters.runs import runs
from search.results.study import Study
from tests.search import factories
from tests.search.confirmations import make_confirmed_study
from trainables.metrics import wilson
from trainables.store.curves import EpochValues, TrainingCurve
from trainables.store.stages import Stages
from trainables.store.state import State


def test_a_run_is_a_trial_with_its_points_by_sparsity(tmp_path: Path) -> None:
    study = Study(factories.make_study(tmp_path / "synthetic", 12))
    found = runs(study)
    assert [run.name for run in found] == [f"t{number}" for number in range(12)]
    assert [found[number].state for number in (0, 3, 5, 7, 11)] == [
        "complete",
        "failed",
        "stopped",
        "complete",
        "waiting",
    ]
    record, outcome = study.records.trials()[1]
    assert outcome is not None
    run, last = found[1], outcome.points[-1]
    assert run.params == record.params
    assert (run.started, run.finished) == (datetime.fromisoformat(factories.WHEN).timestamp(),) * 2
    assert [row.step for row in run.rows] == [0, round(10_000 * last.sparsity)]
    assert run.rows[-1].values["robust_accuracy_low"] == wilson(last.robust_correct, last.examples)[0]
    assert run.rows[-1].values["clean_accuracy_high"] == wilson(last.clean_correct, last.examples)[1]
    assert run.final == {
        "robust_accuracy": last.robust_accuracy,
        "clean_accuracy": last.clean_accuracy,
        "sparsity": last.sparsity,
        "nonzero": last.nonzero,
        "epochs_trained": last.epochs_trained,
        "epochs_shared": last.epochs_shared,
    }
    front = [row.point for row in study.front() if row.trial == 1]
    assert run.tags["front"] == ";".join(front) == "t1.1"
    assert (found[7].tags["flags"], found[7].tags["status"]) == ("gradient_masking", "invalid")
    assert (found[3].tags["failure"], found[11].rows) == ("diverged", ())


def test_confirmed_numbers_stand_beside_the_estimates(tmp_path: Path) -> None:
    study = make_confirmed_study(tmp_path / "s", seeds=2)
    row = study.confirmed()[-1]
    (values,) = (each.values for each in runs(study)[row.trial].rows if each.values["measure"] == row.measured.measure)
    assert values["robust_accuracy"] == row.estimate
    assert values["confirmed_robust_accuracy_mean"] == row.robust_accuracy_mean
    assert values["confirmed_robust_accuracy_sd"] == row.robust_accuracy_sd
    dense = runs(study)[0].rows[0].values
    assert ("confirmed_robust_accuracy" in dense) == ("t0.0" in {each.point for each in study.confirmed()})


def test_training_curves_are_a_series_over_the_epochs_of_a_trial(tmp_path: Path) -> None:
    factories.make_stored_study(tmp_path / "s", 2)
    study = Study.open(str(tmp_path / "s"))
    stages = Stages(study.records.storage)
    record, _ = study.records.trials()[0]
    for at, (key, length) in enumerate(zip(record.keys[:2], (3, 2), strict=True)):
        epochs = tuple(EpochValues(epoch + 1, 2.0 - epoch, 0.5, 0.1, 0.1) for epoch in range(length))
        curve = TrainingCurve("train", length, 1000, 0, epochs)
        stages.save(key, _state(at), epochs=length, seconds=1.0, study="s", trial=0, curve=curve)
    found = [(row.step, row.values["loss"]) for row in runs(study)[0].rows if row.series == "train"]
    assert found == [(1, 2.0), (2, 1.0), (3, 0.0), (4, 2.0), (5, 1.0)]


def _state(value: float) -> State:
    return State({"w": torch.full((3,), float(value))}, {}, {"w": torch.ones(3, dtype=torch.bool)})
