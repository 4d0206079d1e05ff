"""The worker's side of a trial, without a cluster: what it reports, and what it records when things go wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.exceptions import RayActorError

from tests.trainables.factories import FAST, config, run_out, trial
from trainables.core.errors import StorageError
from trainables.core.spec import plain
from trainables.engine import train
from trainables.measure import evaluate
from trainables.recipes.trial import TrialSpec
from trainables.store import paths
from trainables.store.records import Outcome, PartialMeasurement, Point
from trainables.store.storage import Storage
from trainables.worker import points, preemption, run, tune_trainable
from trainables.worker.tune_trainable import RobustsearchTrial

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A study's directory in a storage of its own: studies beside each other share their stages."""
    study = tmp_path / "storage" / "study"
    study.mkdir(parents=True)
    return study


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Any]:
    made: list[RobustsearchTrial] = []

    def start(spec: TrialSpec, **changes: Any) -> RobustsearchTrial:
        place = Path(changes.pop("place", tmp_path))
        made.append(RobustsearchTrial({**config(place, spec), **changes}))
        return made[-1]

    yield start
    for worker in made:
        worker.stop()


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
    reported = [PartialMeasurement.model_validate_json(result["rung"]) for result in results if "rung" in result]
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
    fresh = work(trial(2), place=tmp_path / "fresh")
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


@pytest.mark.slow
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


def progress(place: Path) -> list[int]:
    """The epochs that are saved of trainings under way."""
    return sorted(int(path.stem.removeprefix("progress-")) for path in place.glob("stages/*/progress-*.safetensors"))


def once_saving_is_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save nothing after a training's first epoch, so that what is saved later is saved for a reason."""
    monkeypatch.setattr(run, "FIRST_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(run, "SAVE_SHARE", 1e-9)


def test_a_worker_that_is_told_to_go_saves_and_is_no_failure(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once_saving_is_dear(monkeypatch)
    monkeypatch.setattr(tune_trainable, "MIN_STEP_SECONDS", 0.0)
    spec = trial(epochs=10, sparsity=0.5)
    worker = work(spec)
    while worker.step().get("epoch", 0) < 5:
        pass
    assert progress(tmp_path) == [1]
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(RayActorError) as told:
        worker.step()
    assert told.value.preempted
    assert progress(tmp_path) == [6]
    assert not (tmp_path / paths.outcome(0)).exists()
    worker.stop()
    again = work(spec)
    assert next(epoch for _ in range(9) if (epoch := again.step().get("epoch"))) == 7
    whole = work(spec, place=tmp_path / "whole")
    run_out(whole)
    run_out(again)
    shas = [[p.weights_sha256 for p in outcome(place).points] for place in (tmp_path, tmp_path / "whole")]
    assert shas[0] == shas[1]


def test_the_signal_is_given_back(work: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    worker = work(trial())
    assert signal.getsignal(signal.SIGTERM) != before
    worker.reset_config(worker.config)
    worker.stop()
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_epoch_that_outlasts_the_notice_is_given_up(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preemption, "NOTICE_SECONDS", 0.2)
    real, calls = evaluate.measure, []

    def endless(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        while len(calls) == 1:
            sum(range(1000))
        return real(*arguments, **named)

    monkeypatch.setattr(evaluate, "measure", endless)
    worker = work(trial())
    with pytest.raises(RayActorError) as told:
        run_out(worker)
    assert told.value.preempted
    assert len(calls) == 1
    assert list(tmp_path.glob("stages/*/stage.json")), "what was trained is stored"


@pytest.mark.slow
def test_a_worker_with_a_finished_trial_goes_at_once() -> None:
    code = (
        "import sys, os, signal; from pathlib import Path;"
        "from tests.trainables.factories import config, run_out, trial;"
        "from trainables.worker.tune_trainable import RobustsearchTrial;"
        "import tempfile; worker = RobustsearchTrial(config(Path(tempfile.mkdtemp()), trial(epochs=2)));"
        "run_out(worker); os.kill(os.getpid(), signal.SIGTERM); print('still here')"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stdout) == (143, ""), done.stderr


def test_a_storage_that_refuses_for_a_moment_costs_nothing(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_trainable, "RETRY_SECONDS", 0.0)
    real, refusals = Storage.write, []

    def moody(self: Storage, path: str, content: bytes) -> None:
        if paths.STAGE in path and not refusals:
            refusals.append(path)
            raise StorageError("No space left on device")
        real(self, path, content)

    monkeypatch.setattr(Storage, "write", moody)
    run_out(work(trial()))
    assert len(refusals) == 1
    assert outcome(tmp_path).state == "complete"


@pytest.mark.parametrize("what", [paths.OUTCOME, paths.STAGE, "progress-"])
def test_a_storage_that_keeps_refusing_leaves_the_trial_unfinished(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(tune_trainable, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(run, "FIRST_SAVE_SECONDS", 0.0)
    real: dict[str, Any] = {"write": Storage.write, "claim": Storage.claim}

    def full(name: str) -> Any:
        def refuse(self: Storage, path: str, content: bytes) -> Any:
            if what in path:
                raise StorageError("No space left on device")
            return real[name](self, path, content)

        return refuse

    with monkeypatch.context() as patch:
        for name in real:
            patch.setattr(Storage, name, full(name))
        last = run_out(work(trial()))[-1]
    assert last["storage"] == "No space left on device"
    assert last["done"]
    assert not (tmp_path / paths.outcome(0)).exists()
    run_out(work(trial()))
    assert outcome(tmp_path).state == "complete"


@pytest.mark.parametrize("when", ["before", "under way"])
def test_nothing_is_written_where_the_study_is_not(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(tune_trainable, "RETRY_SECONDS", 0.0)
    worker = work(trial())
    if when == "under way":
        worker.step()
    (tmp_path / paths.trial_record(0)).unlink()
    last = run_out(worker)[-1]
    assert "does not hold trial 0" in last["storage"]
    assert not (tmp_path / paths.outcome(0)).exists()
    assert (tmp_path / "stages").exists() == (when == "under way")


def test_a_clock_that_is_set_back_makes_no_duration_negative(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10_000))

    class Backwards(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2030, 1, 1, tzinfo=UTC) - timedelta(hours=next(clock))

    now = time.time()
    for module in (tune_trainable, points):
        monkeypatch.setattr(module, "datetime", Backwards)
    monkeypatch.setattr(time, "time", lambda: now - 3600 * next(clock))
    run_out(work(trial(sparsity=0.5)))
    ended = outcome(tmp_path)
    assert ended.started > ended.finished, "the clock went back"
    assert ended.state == "complete"
    assert ended.seconds > 0
    assert all(point.seconds > 0 for point in ended.points)


def test_out_of_memory_on_the_first_batch_is_tried_once_more_and_recorded_as_such(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def short(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(train._Run, "_step", short)
    run_out(work(trial()))
    ended = outcome(tmp_path)
    assert ended.failure is not None
    assert (ended.failure.kind, len(ended.points), len(calls)) == ("oom", 0, 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_a_failed_trial(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    real = train._Run._step

    def spoilt(self: Any, *arguments: Any, **named: Any) -> Any:
        found = real(self, *arguments, **named)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.fill_(value)
        return found

    monkeypatch.setattr(train._Run, "_step", spoilt)
    run_out(work(trial()))
    ended = outcome(tmp_path)
    assert ended.failure is not None
    assert (ended.state, ended.failure.kind) == ("failed", "diverged")
    assert not list(tmp_path.glob("stages/*/point.json")), "what diverged is not measured"
