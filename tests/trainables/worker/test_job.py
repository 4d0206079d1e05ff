"""A trial in a worker process: what it yields, what it records, and which failures it tries again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.factories import FAST, job_config, outcome, trial
from trainables.core.errors import NoDevice, StorageError
from trainables.core.spec import plain
from trainables.engine import training_run
from trainables.measure import evaluate
from trainables.models.lenet import LeNet300
from trainables.recipes.trial import TrialSpec
from trainables.store import paths
from trainables.store.storage import Storage
from trainables.worker import job, points, run
from trainables.worker.job import Job
from trainables.worker.progress import Progress


@pytest.fixture
def start(study_folder: Path) -> Iterator[Any]:
    """Make jobs, by default of a trial in `study_folder`, and close them at the end."""
    made: list[Job] = []

    def start(spec: TrialSpec, folder: Path = study_folder, **changes: Any) -> Job:
        made.append(Job({**job_config(folder, spec), **changes}))
        return made[-1]

    yield start
    for each in made:
        each.close()


def finish(work: Job) -> list[Progress]:
    """Work to the recorded end; return what the job yielded."""
    found = []
    while not work.over:
        if (now := work.work()) is not None:
            found.append(now)
    return found


def test_the_outcome_is_recorded_with_the_last_point(start: Any, study_folder: Path) -> None:
    work = start(trial())
    while not ((now := work.work()) and now.point and now.point.measure == 2):
        assert not work.over
    assert work.over
    assert outcome(study_folder).state == "complete"


def test_stored_points_come_with_what_is_measured_next(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "MIN_STEP_SECONDS", 60.0)
    finish(start(trial()))
    (study_folder / paths.outcome(0)).unlink()
    again = start(trial())
    counts = []
    while not again.over:
        again.work()
        counts.append([point.measure for point in again.new])
    assert [found for found in counts if found] == [[0, 1, 2]]


def test_every_point_is_yielded_and_recorded(start: Any, study_folder: Path) -> None:
    found = finish(start(trial()))
    ended = outcome(study_folder)
    assert ended.state == "complete"
    assert list(ended.points) == [now.point for now in found if now.point]
    assert [point.measure for point in ended.points] == [0, 1, 2]
    assert {"torch", "ray", "optuna", "robustsearch"} <= ended.versions.keys()


def test_partial_measurements_are_made_yielded_and_recorded_where_the_configuration_asks_for_them(
    start: Any, study_folder: Path
) -> None:
    found = finish(start(trial(11), partial_schedule={"levels": [1, 4], "examples": 32, "steps": 1}))
    partials = [now.partial for now in found if now.partial]
    assert [partial.resource for partial in partials] == [1, 4]
    assert list(outcome(study_folder).rungs) == partials


def test_points_are_screened_where_the_configuration_asks_for_it(start: Any, study_folder: Path) -> None:
    front = [{"robust_accuracy": 1.0, "sparsity": 0.6}]
    finish(start(trial(), screen={"front": front, "examples": 32, "steps": 2}))
    assert [point.tier for point in outcome(study_folder).points] == ["screened", "screened", "search"]


def test_a_trial_that_is_closed_saves_its_progress_and_has_no_outcome(start: Any, study_folder: Path) -> None:
    work = start(trial(epochs=50), partial_schedule={"levels": [2], "examples": 32, "steps": 1})
    while not ((now := work.work()) and now.partial):
        continue
    work.close()
    assert not (study_folder / paths.outcome(0)).exists()
    (progress,) = study_folder.glob("stages/*/progress-*")
    assert progress.name == "progress-000002.safetensors"


def test_work_pauses_after_an_epoch_where_it_is_interrupted(start: Any) -> None:
    work = start(trial(epochs=50))
    epochs = [now.epoch.epoch for _ in range(5) if (now := work.work(lambda: True)) and now.epoch]
    assert epochs == list(range(1, len(epochs) + 1))
    assert len(epochs) >= 3


def test_a_training_that_diverges_is_a_failed_trial_that_says_so(start: Any, study_folder: Path) -> None:
    wild = {**FAST, "optimiser": {"kind": "sgd", "lr": 1e30}}
    work = start(trial(train=wild))
    finish(work)
    ended = outcome(study_folder)
    assert work.over
    assert ended.failure is not None
    assert (ended.state, ended.failure.kind) == ("failed", "diverged")
    assert "epoch 1" in ended.failure.message
    assert "Traceback" in ended.failure.traceback


def test_a_net_whose_layer_is_pruned_entirely_is_measured_at_chance_and_flagged(start: Any, study_folder: Path) -> None:
    recipe = {"kind": "three_stage", "sparsity": 0.9999, "epochs": 1, "finetune_epochs": 0, "train": FAST}
    finish(start(TrialSpec.model_validate({**plain(trial()), "recipe": recipe})))
    last = outcome(study_folder).points[-1]
    assert last.clean_accuracy < 0.3
    assert {"dead_layer", "at_chance"} <= set(last.flags)
    assert last.status == "warn"


def test_other_data_than_the_studys_are_refused(start: Any, study_folder: Path) -> None:
    finish(start(trial(), fingerprint="0" * 64))
    ended = outcome(study_folder)
    assert ended.failure is not None
    assert ended.failure.kind == "data"
    assert "differ from those the study was made with" in ended.failure.message


def test_a_worker_that_lost_its_gpu_leaves_the_trial_to_others(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    work = start(trial(), resources={"CPU": 1, "GPU": 0.5})
    with pytest.raises(NoDevice, match=r"given 0\.5 GPUs on .*, but torch .* sees none there \(CUDA_VISIBLE_DEVICES: "):
        finish(work)
    assert not work.over
    assert not (study_folder / paths.outcome(0)).exists()


@pytest.mark.slow
@pytest.mark.parametrize(("times", "state"), [(1, "complete"), (2, "failed")])
def test_out_of_memory_is_tried_once_more_from_the_store(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch, times: int, state: str
) -> None:
    real, calls = evaluate.measure, []

    def short(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(*arguments, **named)

    monkeypatch.setattr(evaluate, "measure", short)
    found = finish(start(trial(sparsity=0.5)))
    ended = outcome(study_folder)
    assert ended.state == state
    assert (ended.failure.kind if ended.failure else None) == (None if state == "complete" else "oom")
    assert max((now.epochs_trained for now in found), default=0) <= 5


def test_a_bug_in_a_plugin_is_recorded_with_its_traceback(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **named: Any) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(evaluate, "measure", broken)
    finish(start(trial()))
    ended = outcome(study_folder)
    assert ended.failure is not None
    assert (ended.failure.kind, ended.failure.message) == ("bug", "oops")
    assert "ZeroDivisionError" in ended.failure.traceback


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (SystemExit(3), "bug", "the code of the trial raised SystemExit(3)"),
        (SystemExit(), "bug", "the code of the trial raised SystemExit()"),
        (KeyboardInterrupt("no user"), "bug", "the code of the trial raised KeyboardInterrupt('no user')"),
        (GeneratorExit(), "bug", "the code of the trial raised GeneratorExit()"),
        (BaseException("of no kind"), "bug", "the code of the trial raised BaseException('of no kind')"),
        (KeyError("weight"), "bug", "KeyError: 'weight'"),
        (AssertionError(), "bug", "AssertionError"),
        (BaseExceptionGroup("many", [MemoryError(), SystemExit()]), "oom", "the code of the trial raised BaseExc"),
    ],
    ids=repr,
)
def test_whatever_the_code_of_a_trial_raises_is_recorded(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, kind: str, message: str
) -> None:
    def broken(*arguments: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr(evaluate, "measure", broken)
    finish(start(trial(sparsity=0.5)))
    ended = outcome(study_folder)
    assert ended.failure is not None
    assert ended.failure.kind == kind
    assert ended.failure.message.startswith(message)


@pytest.mark.slow
def test_a_users_ctrl_c_is_no_failure_of_the_trial(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **named: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(evaluate, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finish(start(trial()))
    assert not (study_folder / paths.outcome(0)).exists()


@pytest.mark.slow
def test_an_outcome_that_is_recorded_is_not_overwritten(start: Any, study_folder: Path) -> None:
    finish(start(trial()))
    before = Storage(str(study_folder)).read(paths.outcome(0))
    finish(start(trial()))
    assert Storage(str(study_folder)).read(paths.outcome(0)) == before


@pytest.mark.slow
def test_damaged_stages_are_dropped_and_computed_again(start: Any, study_folder: Path) -> None:
    finish(start(trial(sparsity=0.5)))
    whole = outcome(study_folder)
    (study_folder / paths.outcome(0)).unlink()
    for file in study_folder.glob("stages/*/*"):
        if file.name == paths.POINT:
            file.unlink()
        elif file.name == paths.STATE:
            file.write_bytes(file.read_bytes()[:-1] + b"?")
    finish(start(trial(sparsity=0.5)))
    again = outcome(study_folder)
    assert again.state == "complete"
    assert [p.weights_sha256 for p in again.points] == [p.weights_sha256 for p in whole.points]


@pytest.mark.slow
def test_a_storage_that_refuses_for_a_moment_costs_nothing(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "RETRY_SECONDS", 0.0)
    real, refusals = Storage.write, []

    def moody(self: Storage, path: str, content: bytes) -> None:
        if paths.STAGE in path and not refusals:
            refusals.append(path)
            raise StorageError("No space left on device")
        real(self, path, content)

    monkeypatch.setattr(Storage, "write", moody)
    finish(start(trial()))
    assert len(refusals) == 1
    assert outcome(study_folder).state == "complete"


@pytest.mark.slow
@pytest.mark.parametrize("what", [paths.OUTCOME, paths.STAGE, "progress-"])
def test_a_storage_that_keeps_refusing_leaves_the_trial_unfinished(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(job, "RETRY_SECONDS", 0.0)
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
        work = start(trial())
        with pytest.raises(StorageError, match="No space left on device"):
            finish(work)
    assert not work.over
    assert not (study_folder / paths.outcome(0)).exists()
    finish(start(trial()))
    assert outcome(study_folder).state == "complete"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "under way"])
def test_nothing_is_written_where_the_study_is_not(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(job, "RETRY_SECONDS", 0.0)
    work = start(trial())
    if when == "under way":
        work.work()
    (study_folder / paths.trial_record(0)).unlink()
    with pytest.raises(StorageError, match="does not hold trial 0"):
        finish(work)
    assert not (study_folder / paths.outcome(0)).exists()
    assert (study_folder / "stages").exists() == (when == "under way")


@pytest.mark.slow
def test_a_study_that_takes_the_place_of_another_gets_no_outcome_of_its_trials(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "RETRY_SECONDS", 0.0)
    work = start(trial())
    work.work()
    study_folder.rename(study_folder.with_name("moved"))
    (study_folder / paths.trial(0)).mkdir(parents=True)
    (study_folder / paths.trial_record(0)).write_text("of another study")
    with pytest.raises(StorageError, match="does not hold trial 0"):
        finish(work)
    assert not (study_folder / paths.outcome(0)).exists()


@pytest.mark.slow
def test_a_study_that_is_moved_away_while_a_trial_runs_is_not_made_anew(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "RETRY_SECONDS", 0.0)
    work = start(trial(epochs=20))
    while not (now := work.work()) or now.phases_done < 1:
        continue
    study_folder.rename(study_folder.with_name("moved"))
    with pytest.raises(StorageError):
        finish(work)
    work.close()
    assert not study_folder.exists()


def test_a_clock_that_is_set_back_makes_no_duration_negative(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10_000))

    class Backwards(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2030, 1, 1, tzinfo=UTC) - timedelta(hours=next(clock))

    now = time.time()
    for module in (job, points):
        monkeypatch.setattr(module, "datetime", Backwards)
    monkeypatch.setattr(time, "time", lambda: now - 3600 * next(clock))
    finish(start(trial(sparsity=0.5)))
    ended = outcome(study_folder)
    assert ended.started > ended.finished, "the clock went back"
    assert ended.state == "complete"
    assert ended.seconds > 0
    assert all(point.seconds > 0 for point in ended.points)


def test_out_of_memory_on_the_first_batch_is_tried_once_more_and_recorded_as_such(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def short(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(training_run.TrainingRun, "_step", short)
    finish(start(trial()))
    ended = outcome(study_folder)
    assert ended.failure is not None
    assert (ended.failure.kind, len(ended.points), len(calls)) == ("oom", 0, 2)


def test_a_network_whose_logits_in_eval_mode_are_no_numbers_has_diverged(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NaNInEvalMode(torch.nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = super().forward(x)
            return logits if self.training else logits * float("nan")

    real = LeNet300.network
    monkeypatch.setattr(LeNet300, "network", lambda *of: NaNInEvalMode(real(*of)))
    finish(start(trial()))
    ended = outcome(study_folder)
    assert ended.failure is not None
    assert (ended.failure.kind, ended.failure.message) == ("diverged", "the network's logits in eval mode are NaN")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_a_failed_trial(
    start: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    real = training_run.TrainingRun._step

    def spoilt(self: Any, *arguments: Any, **named: Any) -> Any:
        found = real(self, *arguments, **named)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.fill_(value)
        return found

    monkeypatch.setattr(training_run.TrainingRun, "_step", spoilt)
    finish(start(trial()))
    ended = outcome(study_folder)
    assert ended.failure is not None
    assert (ended.state, ended.failure.kind) == ("failed", "diverged")
    assert not list(study_folder.glob("stages/*/point.json")), "what diverged is not measured"
