from __future__ import annotations

import inspect
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from search.results.study import CLASS_NAMES, Study
from search.store import driver_lock
from tests.search import factories
from trainables.core.errors import SpecError, StorageError
from trainables.store import paths
from trainables.store.curves import EpochValues, TrainingCurve
from trainables.store.records import PartialMeasurement
from trainables.store.stages import Stages
from trainables.store.state import State


@pytest.fixture
def study(tmp_path: Path) -> Study:
    factories.make_study(tmp_path / "study", 12)
    return Study.open(str(tmp_path / "study"))


def test_opening_what_is_no_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no study"):
        Study.open(str(tmp_path))


def test_a_target_is_reached_once_all_replicates_have_ended(tmp_path: Path) -> None:
    spec = factories.study_spec(seeds=[1, 2], constraints={}, target={"robust_accuracy": ">= 0.05"})
    for trials in (2, 3):  # The last one has not ended.
        answer = Study(factories.make_study(tmp_path / str(trials), trials, spec)).answer()
        assert answer is not None
        assert (answer.point is not None) is (trials == 3)


@pytest.mark.slow
def test_importing_search_stays_light() -> None:
    for statement, heavy in (
        ("import search", ("pydantic", "pyarrow", "numpy", "moocore", "torch", "ray")),
        ("from search import Study", ("torch", "ray", "optuna", "matplotlib")),
    ):
        code = f"{statement}; import sys; print([name for name in {heavy} if name in sys.modules])"
        found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert found.stdout.strip() == "[]"


def test_curves_are_those_of_the_chain_with_partial_measurements(tmp_path: Path) -> None:
    factories.make_stored_study(tmp_path / "study")
    study = Study.open(str(tmp_path / "study"))
    record = study.records.trials()[0][0]
    assert study.curves(0) == [], "an older version kept none"
    stages, key = Stages(study.records.storage), record.keys[1]
    values = tuple(EpochValues(epoch, 2.0 / epoch, 0.5, 0.1, 0.1) for epoch in (1, 2, 3))
    state = State({"w": torch.ones(3)}, {}, {})
    curve = TrainingCurve("train", 3, 600, 0, values)
    stages.save(key, state, epochs=3, seconds=1.0, study="study", trial=0, curve=curve)
    numbers = {"robust_accuracy": 0.5, "clean_accuracy": 0.75, "examples": 64, "attack": "PGD-2", "sparsity": 0.0}
    partial = PartialMeasurement(**numbers, resource=2, share=0.5, measures=0, nonzero=3, prunable=3)
    stages.save_partial(key, 2, "ab", partial)
    (found,) = study.curves(0)
    assert (found.phase, found.kind, found.key, found.trial, found.before, found.first) == (1, "train", key, 0, 0, 0)
    assert found.epochs == values
    assert [(on_the_way.epoch, on_the_way.measured) for on_the_way in found.partials] == [(2, partial)]
    (tmp_path / "study" / paths.stage(key) / paths.CURVE).write_text(curve.json_text().replace("2.0", "2.5"))
    assert study.curves(0) == [], "a curve that was edited is none"
    with pytest.raises(SpecError, match="has no trial 99"):
        study.curves(99)


def test_study_is_exported_and_nothing_else() -> None:
    import search

    assert search.Study is Study
    with pytest.raises(AttributeError, match="nonsense"):
        _ = search.nonsense  # type: ignore[attr-defined]


def test_front_is_a_part_of_the_points_from_dense_to_sparse(study: Study) -> None:
    front = study.front()
    assert len(front) >= 3
    assert [row.sparsity for row in front] == sorted(row.sparsity for row in front)
    assert {row.point for row in front} == {row.point for row in study.points() if row.on_front}
    assert not any(row.status == "invalid" or row.trial in (3, 5, 11) for row in front)
    robust = [row.robust_accuracy for row in front]
    assert robust == sorted(robust, reverse=True)


def test_tables_of_points_name_the_classes(study: Study) -> None:
    assert study.table().schema.metadata is None, "a study of before names were kept"
    names = ("cat", "b\\u202eird")
    study.records.fingerprint = study.records.fingerprint.model_copy(update={"class_names": names})
    for what in ("points", "front"):
        metadata = study.table(what).schema.metadata  # type: ignore[arg-type]
        assert json.loads(metadata[CLASS_NAMES.encode()]) == list(names)
    assert study.class_names == names


def test_hypervolume_is_the_area_below_the_staircase(study: Study) -> None:
    area, reached = 0.0, 0.0
    for row in study.front():
        area += (row.sparsity - reached) * row.robust_accuracy
        reached = row.sparsity
    assert study.hypervolume() == pytest.approx(area)
    assert 0 < study.hypervolume() < 1


def test_network_shared_by_trials_is_listed_once_under_the_first(tmp_path: Path) -> None:
    records = factories.make_study(tmp_path / "study", 0)
    dense = factories.point(0, sparsity=0.0, robust_accuracy=0.8)
    for number in range(3):
        records.issue(factories.trial(number))
        own = factories.point(1, sparsity=0.9, robust_accuracy=0.6 + number / 100)
        records.write_outcome(factories.outcome(number, [dense, own]))
    study = Study(records)
    assert [row.point for row in study.points() if row.on_front] == ["t0.0", "t1.0", "t2.0", "t2.1"]
    assert [row.point for row in study.front()] == ["t0.0", "t2.1"]
    assert study.table("front").column("point").to_pylist() == ["t0.0", "t2.1"]


def test_nothing_feasible_gives_an_empty_front_and_the_least_violating_first(tmp_path: Path) -> None:
    records = factories.make_study(tmp_path / "study", 0)
    for number, clean in enumerate((0.5, 0.7, 0.6, 0.7)):
        records.issue(factories.trial(number))
        status = "invalid" if number == 3 else "ok"
        records.write_outcome(
            factories.outcome(number, [factories.point(clean_accuracy=clean, robust_accuracy=0.4, status=status)])
        )
    study = Study(records)
    assert study.front() == []
    assert study.hypervolume() == 0
    assert [row.point for row in study.infeasible()] == ["t1.0", "t2.0", "t0.0"]
    assert [row.point for row in study.infeasible(limit=1)] == ["t1.0"]


def test_summary_counts_every_issued_trial_once(study: Study) -> None:
    summary = study.summary()
    assert (summary.planned, summary.issued) == (16, 12)
    assert (summary.complete, summary.failed, summary.stopped, summary.waiting) == (9, 1, 1, 1)
    assert (summary.running, summary.damaged, summary.driver) == (0, 0, None)
    assert summary.points == len(study.points()) == 18
    assert summary.front == len(study.front())
    assert summary.hypervolume == study.hypervolume()
    assert summary.failures == {"diverged": 1}
    assert summary.seconds == 11 * 5.0


def test_unfinished_trials_run_while_a_driver_lives(study: Study) -> None:
    with driver_lock.acquire(study.records.storage):
        summary = study.summary()
    assert (summary.running, summary.waiting) == (1, 0)
    assert summary.driver is not None
    assert summary.driver.startswith("process ")


def test_damaged_record_is_counted_and_the_rest_is_read(study: Study) -> None:
    study.records.storage.write(paths.outcome(0), b"[" * 10_000)
    again = Study.open(study.records.storage.location)
    assert again.summary().damaged == 1
    assert again.summary().issued == 12
    assert [damaged.path for damaged in again.damaged()] == [paths.outcome(0)]
    assert "t0.0" not in {row.point for row in again.points()}


def test_new_outcomes_are_seen_without_opening_again(study: Study) -> None:
    before = len(study.points())
    study.records.storage.claim(paths.outcome(11), factories.outcome(11).json_bytes())
    assert len(study.points()) == before + 1
    assert study.summary().waiting == 0


def test_documented_example_runs(study: Study) -> None:
    from search.results import study as module

    code = textwrap.dedent((inspect.getdoc(module.Study) or "").split("Example::")[1])
    code = code.replace("runs/quickstart", study.records.storage.location).split("study.table")[0]
    assert "front()" in code
    exec(code, {})
    frame = study.table("points").to_pandas()
    assert len(frame) == 18
    assert list(frame["sparsity"]) == [row.sparsity for row in study.points()]
