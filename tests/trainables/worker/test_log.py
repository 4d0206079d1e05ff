"""The log of a worker: what its lines say of a trial, and that only a process of its own writes them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainables.factories import job_config, outcome, trial
from trainables.recipes.trial import TrialSpec
from trainables.testing.trainings import end, phase, started
from trainables.worker.job import Job
from trainables.worker.log import TrialLog
from trainables.worker.progress import Progress

NUMBER = r"[\d.e-]+"


def run(folder: Path, spec: TrialSpec, *, own_process: bool = True, **changes: Any) -> None:
    job = Job({**job_config(folder, spec), **changes}, own_process=own_process)
    while not job.over:
        job.work()


def test_every_epoch_point_and_end_is_a_line(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(study_folder, trial(epochs=3), partial_schedule={"levels": [2], "examples": 32, "steps": 1})
    lines = capsys.readouterr().out.splitlines()
    ended = outcome(study_folder)
    assert all(line.startswith("trial 0 ") for line in lines)
    epoch = rf"trial 0 train (\d+)/(\d+) loss {NUMBER} accuracy 0\.\d{{4}} {NUMBER} s"
    epochs = [found.groups() for line in lines if (found := re.fullmatch(epoch, line))]
    assert epochs[:3] == [("1", "3"), ("2", "3"), ("3", "3")]
    assert len(epochs) == ended.points[-1].epochs_trained
    (partial,) = ended.rungs
    accuracies = f"robust {partial.robust_accuracy:.4f} clean {partial.clean_accuracy:.4f}"
    assert f"trial 0 train on the way: {accuracies}" in lines
    for point in ended.points:
        accuracies = f"robust {point.robust_accuracy:.4f} clean {point.clean_accuracy:.4f}"
        said = f"trial 0 point {point.measure}: {accuracies} at {100 * point.sparsity:.2f} % sparsity, "
        assert any(line.startswith(said) for line in lines)
    assert re.fullmatch(rf"trial 0 complete, {len(ended.points)} points, {NUMBER} s", lines[-1])


def test_a_failure_is_named(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(study_folder, trial(epochs=3), fingerprint="0" * 64)
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"trial 0 failed, 0 points, {NUMBER} s \(data\): the data on .*", line)


def test_a_stage_that_another_computes_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    log = TrialLog(3)
    waiting = Progress("train", 1, 4, 0, waits_for="process 7")
    for progress in (waiting, waiting, Progress("train", 1, 4, 0), waiting):
        log.progress(progress)
    assert capsys.readouterr().out.splitlines() == ["trial 3 waits for a stage that process 7 computes"] * 2


def test_the_size_of_a_network_with_pruned_filters_is_said_once_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    log = TrialLog(3)
    epoch = end(started(phase(epochs=1)))
    for done, size in ((1, ""), (3, "without pruned filters"), (3, "without pruned filters"), (5, "with all")):
        log.progress(Progress("train", done, 6, 0, replace(epoch, size=size)))
    lines = [line for line in capsys.readouterr().out.splitlines() if "loss" not in line]
    assert lines == ["trial 3 train without pruned filters", "trial 3 train with all"]


def test_in_the_process_of_a_launch_nothing_is_printed(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(study_folder, trial(epochs=3), own_process=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, " s"),
        ({"replayed": 12}, " s, 12 steps from a CUDA graph"),
        ({"not_replayed": "it draws"}, " s, no CUDA graph: it draws"),
    ],
)
def test_an_epoch_says_whether_steps_were_replayed(
    fields: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    epoch = replace(end(started(phase(epochs=1))), **fields)
    TrialLog(0).progress(Progress("train", 0, 1, 1, epoch))
    assert capsys.readouterr().out.endswith(f"{said}\n")
