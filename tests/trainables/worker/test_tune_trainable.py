"""The Tune trainable without a cluster: its results, reuse for another trial, preemption, a storage that refuses."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray import _raylet
from ray.exceptions import RayActorError

from tests.trainables.factories import job_config, outcome, trial
from trainables.core.errors import StorageError
from trainables.measure import evaluate
from trainables.recipes.trial import TrialSpec
from trainables.store import paths
from trainables.store.records import PartialMeasurement, Point
from trainables.store.storage import Storage
from trainables.worker import job, preemption, run
from trainables.worker.tune_trainable import RobustsearchTrial

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def work(study_folder: Path) -> Iterator[Any]:
    made: list[RobustsearchTrial] = []

    def start(spec: TrialSpec, **changes: Any) -> RobustsearchTrial:
        folder = Path(changes.pop("folder", study_folder))
        made.append(RobustsearchTrial({**job_config(folder, spec), **changes}))
        return made[-1]

    yield start
    for worker in made:
        worker.stop()


def run_out(worker: RobustsearchTrial) -> list[dict[str, Any]]:
    results = [worker.step()]
    while not results[-1]["done"]:
        results.append(worker.step())
    return results


def measured(results: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The measurements in results: their kinds, and what they say."""
    return [each for result in results for each in result.get("new", ())]


def test_the_process_is_named_after_trial_and_phase_from_the_first_moment(
    work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(_raylet, "setproctitle", titles.append)
    worker = work(trial(), title="tiny-00000 sparsity=0.75")
    assert titles == ["ray::tiny-00000 starts sparsity=0.75"]
    run_out(worker)
    shown = [title.removeprefix("ray::tiny-00000 ").removesuffix(" sparsity=0.75") for title in titles]
    pruned = ["prune", "rewind", "train", "train 2/3", "train 3/3", "measure"]
    expected = ["starts", "train", "train 1/3", "train 2/3", "train 3/3", "measure", *pruned, *pruned, "ends"]
    assert [title for title, before in zip(shown, ["", *shown], strict=False) if title != before] == expected
    worker.reset_config({**worker.config, "number": 1, "title": "tiny-00001"})
    assert titles[-1] == "ray::tiny-00001 starts"


def test_every_point_is_reported_and_recorded(work: Any, study_folder: Path) -> None:
    results = run_out(work(trial()))
    reported = [Point.model_validate_json(text) for kind, text in measured(results) if kind == "Point"]
    ended = outcome(study_folder)
    assert ended.state == "complete"
    assert list(ended.points) == reported
    assert [point.measure for point in reported] == [0, 1, 2]
    assert all(json.dumps(result) for result in results)
    assert {"torch", "ray", "optuna", "robustsearch"} <= ended.versions.keys()


def test_partial_measurements_are_reported_where_the_configuration_asks(work: Any, study_folder: Path) -> None:
    results = run_out(work(trial(11), partial_schedule={"levels": [1, 4], "examples": 32, "steps": 1}))
    reported = [PartialMeasurement.model_validate_json(text) for kind, text in measured(results) if kind != "Point"]
    assert [partial.resource for partial in reported] == [1, 4]
    assert list(outcome(study_folder).rungs) == reported
    assert all(json.dumps(result) for result in results)


def test_a_trial_that_is_stopped_saves_where_it_stands_and_leaves_its_record_to_the_driver(
    work: Any, study_folder: Path
) -> None:
    worker = work(trial(epochs=50), partial_schedule={"levels": [2], "examples": 32, "steps": 1})
    while "new" not in worker.step():
        continue
    worker.stop()
    assert not (study_folder / paths.outcome(0)).exists()
    (progress,) = study_folder.glob("stages/*/progress-*")
    assert progress.name == "progress-000002.safetensors"


@pytest.mark.slow
def test_one_worker_takes_on_another_trial_with_nothing_left_of_the_first(work: Any, study_folder: Path) -> None:
    alone = study_folder / "alone"
    worker = work(trial(1))
    run_out(worker)
    assert worker.reset_config({**job_config(alone, trial(2)), "number": 0})
    run_out(worker)
    fresh = work(trial(2), folder=study_folder / "fresh")
    run_out(fresh)
    shas = [[p.weights_sha256 for p in outcome(folder).points] for folder in (alone, study_folder / "fresh")]
    assert shas[0] == shas[1]


def collected(thing: object) -> bool:
    """Whether the garbage collector looks at an object."""
    return any(other is thing for other in gc.get_objects())


@pytest.mark.slow
def test_the_collector_passes_over_what_is_loaded_but_not_over_what_trials_leave(work: Any, study_folder: Path) -> None:
    loaded = [object()]
    assert collected(loaded)
    worker = work(trial(1))
    assert not collected(loaded)
    run_out(worker)
    of_the_first = [object()]
    worker.reset_config({**job_config(study_folder / "second", trial(2)), "number": 0})
    assert not collected(of_the_first)  # Modules that the first trial loaded.
    of_the_second = [object()]
    worker.reset_config({**job_config(study_folder / "third", trial(3)), "number": 0})
    assert collected(of_the_second)


def saved_epochs(folder: Path) -> list[int]:
    """The epochs that are saved of trainings under way."""
    return sorted(int(path.stem.removeprefix("progress-")) for path in folder.glob("stages/*/progress-*.safetensors"))


def once_saving_is_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save nothing after a training's first epoch, so that what is saved later is saved for a reason."""
    monkeypatch.setattr(run, "FIRST_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(run, "SAVE_SHARE", 1e-9)


@pytest.mark.slow
def test_a_preempted_worker_saves_and_is_no_failure(
    work: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once_saving_is_dear(monkeypatch)
    monkeypatch.setattr(job, "MIN_STEP_SECONDS", 0.0)
    spec = trial(epochs=10, sparsity=0.5)
    worker = work(spec)
    while worker.step().get("epoch", 0) < 5:
        pass
    assert saved_epochs(study_folder) == [1]
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(RayActorError) as raised:
        worker.step()
    assert raised.value.preempted
    assert saved_epochs(study_folder) == [6]
    assert not (study_folder / paths.outcome(0)).exists()
    worker.stop()
    again = work(spec)
    assert next(epoch for _ in range(9) if (epoch := again.step().get("epoch"))) == 7
    whole = work(spec, folder=study_folder / "whole")
    run_out(whole)
    run_out(again)
    shas = [[p.weights_sha256 for p in outcome(folder).points] for folder in (study_folder, study_folder / "whole")]
    assert shas[0] == shas[1]


def test_the_signal_is_given_back(work: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    worker = work(trial())
    assert signal.getsignal(signal.SIGTERM) != before
    worker.reset_config(worker.config)
    worker.stop()
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_epoch_that_outlasts_the_grace_period_is_given_up(
    work: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preemption, "GRACE_SECONDS", 0.2)
    real, calls = evaluate.measure, []

    def endless(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        while len(calls) == 1:
            sum(range(1000))
        return real(*arguments, **named)

    monkeypatch.setattr(evaluate, "measure", endless)
    worker = work(trial())
    with pytest.raises(RayActorError) as raised:
        run_out(worker)
    assert raised.value.preempted
    assert len(calls) == 1
    assert list(study_folder.glob("stages/*/stage.json")), "what was trained is stored"


@pytest.mark.slow
def test_a_worker_with_a_finished_trial_goes_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path;"
        "from tests.trainables.factories import job_config, trial;"
        "from tests.trainables.worker.test_tune_trainable import run_out, RobustsearchTrial;"
        "worker = RobustsearchTrial(job_config(Path(sys.argv[1]), trial(epochs=2)));"
        "run_out(worker); os.kill(os.getpid(), signal.SIGTERM); print('still here')"
    )
    root = Path(__file__).parents[3]
    words = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=root)
    assert done.returncode == 143, done.stderr
    assert "still here" not in done.stdout


def test_a_storage_that_keeps_refusing_ends_the_trial_as_the_result_says(
    work: Any, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "RETRY_SECONDS", 0.0)

    def full(self: Storage, path: str, content: bytes) -> None:
        raise StorageError("No space left on device")

    monkeypatch.setattr(Storage, "write", full)
    last = run_out(work(trial()))[-1]
    assert (last["storage"], last["done"]) == ("No space left on device", True)
    assert not (study_folder / paths.outcome(0)).exists()
