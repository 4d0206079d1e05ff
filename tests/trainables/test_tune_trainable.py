"""The worker's side of a trial, without a cluster: what it reports, and what it records when things go wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.test_run import FAST, trial
from trainables import evaluate, paths
from trainables.base import plain
from trainables.data import tensors
from trainables.outcome import Outcome, Point, Rung
from trainables.spec import TrialSpec
from trainables.storage import Storage
from trainables.tune_trainable import RobustsearchTrial

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def config(place: Path, spec: TrialSpec, number: int = 0) -> dict[str, Any]:
    return {
        "number": number,
        "study": "study",
        "title": f"study-{number}",
        "spec": plain(spec),
        "fingerprint": tensors.load(spec.data, torch.device("cpu")).fingerprint,
        "storage": str(place),
        "resources": {"CPU": 1},
    }


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Any]:
    made: list[RobustsearchTrial] = []

    def start(spec: TrialSpec, **changes: Any) -> RobustsearchTrial:
        made.append(RobustsearchTrial({**config(tmp_path, spec), **changes}))
        return made[-1]

    yield start
    for worker in made:
        worker.stop()


def run_out(worker: RobustsearchTrial) -> list[dict[str, Any]]:
    results = [worker.step()]
    while not results[-1]["done"]:
        results.append(worker.step())
    return results


def outcome(place: Path, number: int = 0) -> Outcome:
    return Outcome.model_validate_json(Storage(str(place)).read(paths.outcome(number)))


def test_every_point_is_reported_and_recorded(work: Any, tmp_path: Path) -> None:
    results = run_out(work(trial()))
    reported = [Point.model_validate_json(result["point"]) for result in results if "point" in result]
    ended = outcome(tmp_path)
    assert ended.state == "complete"
    assert list(ended.points) == reported
    assert [point.measure for point in reported] == [0, 1, 2]
    assert all(json.dumps(result) for result in results)
    assert {"torch", "ray", "optuna", "robustsearch"} <= ended.versions.keys()


def test_looks_are_taken_reported_and_recorded_where_the_configuration_asks_for_them(work: Any, tmp_path: Path) -> None:
    results = run_out(work(trial(11), rungs={"levels": [1, 4], "examples": 32, "steps": 1}))
    reported = [Rung.model_validate_json(result["rung"]) for result in results if "rung" in result]
    assert [look.resource for look in reported] == [1, 4]
    assert list(outcome(tmp_path).rungs) == reported
    assert all(json.dumps(result) for result in results)


def test_a_trial_that_is_stopped_saves_where_it_stands_and_leaves_its_record_to_the_driver(
    work: Any, tmp_path: Path
) -> None:
    worker = work(trial(epochs=50), rungs={"levels": [2], "examples": 32, "steps": 1})
    while "rung" not in worker.step():
        continue
    worker.stop()
    assert not (tmp_path / paths.outcome(0)).exists()
    (progress,) = tmp_path.glob("stages/*/progress-*")
    assert progress.name == "progress-000002.safetensors"


def test_one_worker_takes_on_another_trial_with_nothing_left_of_the_first(work: Any, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    worker = work(trial(1))
    run_out(worker)
    assert worker.reset_config({**config(alone, trial(2)), "number": 0})
    run_out(worker)
    fresh = work(trial(2), storage=str(tmp_path / "fresh"))
    run_out(fresh)
    shas = [[p.weights_sha256 for p in outcome(place).points] for place in (alone, tmp_path / "fresh")]
    assert shas[0] == shas[1]


def test_a_training_that_diverges_is_a_failed_trial_that_says_so(work: Any, tmp_path: Path) -> None:
    wild = {**FAST, "optimiser": {"kind": "sgd", "lr": 1e30}}
    results = run_out(work(trial(train=wild)))
    ended = outcome(tmp_path)
    assert results[-1]["done"]
    assert ended.failure is not None
    assert (ended.state, ended.failure.kind) == ("failed", "diverged")
    assert "epoch 1" in ended.failure.message
    assert "Traceback" in ended.failure.traceback


def test_a_net_whose_layer_is_pruned_away_is_measured_at_chance_and_flagged(work: Any, tmp_path: Path) -> None:
    recipe = {"kind": "three_stage", "sparsity": 0.9999, "epochs": 1, "finetune_epochs": 0, "train": FAST}
    run_out(work(TrialSpec.model_validate({**plain(trial()), "recipe": recipe})))
    last = outcome(tmp_path).points[-1]
    assert last.clean_accuracy < 0.3
    assert {"dead_layer", "at_chance"} <= set(last.flags)
    assert last.status == "warn"


def test_other_data_than_the_studys_are_refused(work: Any, tmp_path: Path) -> None:
    run_out(work(trial(), fingerprint="0" * 64))
    ended = outcome(tmp_path)
    assert ended.failure is not None
    assert ended.failure.kind == "data"
    assert "differ from those the study was made with" in ended.failure.message


@pytest.mark.parametrize(("times", "state"), [(1, "complete"), (2, "failed")])
def test_out_of_memory_is_tried_once_more_from_the_store(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, state: str
) -> None:
    real, calls = evaluate.measure, []

    def short(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(*arguments, **named)

    monkeypatch.setattr(evaluate, "measure", short)
    results = run_out(work(trial(sparsity=0.5)))
    ended = outcome(tmp_path)
    assert ended.state == state
    assert (ended.failure.kind if ended.failure else None) == (None if state == "complete" else "oom")
    assert max(result.get("epochs_trained", 0) for result in results) <= 5


def test_a_bug_in_a_plugin_is_recorded_with_its_traceback(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **named: Any) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(evaluate, "measure", broken)
    run_out(work(trial()))
    ended = outcome(tmp_path)
    assert ended.failure is not None
    assert (ended.failure.kind, ended.failure.message) == ("bug", "oops")
    assert "ZeroDivisionError" in ended.failure.traceback


def test_an_outcome_that_is_recorded_is_not_overwritten(work: Any, tmp_path: Path) -> None:
    run_out(work(trial()))
    before = Storage(str(tmp_path)).read(paths.outcome(0))
    run_out(work(trial()))
    assert Storage(str(tmp_path)).read(paths.outcome(0)) == before


def test_damaged_stages_are_dropped_and_computed_again(work: Any, tmp_path: Path) -> None:
    run_out(work(trial(sparsity=0.5)))
    whole = outcome(tmp_path)
    (tmp_path / paths.outcome(0)).unlink()
    for file in tmp_path.glob("stages/*/*"):
        if file.name == paths.POINT:
            file.unlink()
        elif file.name == paths.STATE:
            file.write_bytes(file.read_bytes()[:-1] + b"?")
    run_out(work(trial(sparsity=0.5)))
    again = outcome(tmp_path)
    assert again.state == "complete"
    assert [p.weights_sha256 for p in again.points] == [p.weights_sha256 for p in whole.points]
