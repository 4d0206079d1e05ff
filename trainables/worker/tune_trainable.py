"""The Ray adapter of a trial: a Tune trainable whose every step is one report.

The worker writes its own outcome, so a finished trial is on disk whatever happens to the driver.
"""

from __future__ import annotations

import gc
import importlib
import os
import socket
import time
import traceback
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch
from ray import tune
from ray.exceptions import RayActorError

from trainables.core.errors import DataError, StageLost, StorageError, failure_class
from trainables.core.versions import versions
from trainables.data import tensors
from trainables.method.partial import PartialSchedule
from trainables.method.screening import Screen
from trainables.recipes.trial import TrialSpec
from trainables.store import paths
from trainables.store.records import Failure, Outcome, PartialMeasurement, Point
from trainables.store.stages import Stages
from trainables.store.storage import Storage
from trainables.worker.preemption import Away, Notice
from trainables.worker.run import Report, Run, assigned_device

MIN_STEP_SECONDS = 0.5
"""A step lasts at least so long, unless a point or the end comes first: reports cost milliseconds each."""

MAX_LOST_STAGES = 50
"""How often a trial starts over because a stage that it needs is damaged: each time one more has been dropped."""

RETRY_SECONDS = 1.0
"""How long a storage that refuses has until it is tried once more."""


@dataclass
class _Job:
    """The trial that a worker has in hand. Apart from the trainable, whose base class has attributes of its own."""

    config: dict[str, Any]
    place: Storage
    points: list[Point] = field(default_factory=list)
    rungs: list[PartialMeasurement] = field(default_factory=list)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.monotonic)
    reports: Generator[Report, None, None] | None = None
    over: bool = False
    attempts: int = 1

    @property
    def number(self) -> int:
        return int(self.config["number"])

    def advance(self, notice: Notice) -> Report | None:
        """Work until the next point or look, for a moment, or until there is notice; None when all is done."""
        began = time.monotonic()
        if self.reports is None:
            self.reports = self._start()
        for report in self.reports:
            if report.point is not None:
                self.points.append(report.point)
                return report
            if report.rung is not None:
                self.rungs.append(report.rung)
                return report
            if notice.given or time.monotonic() - began >= MIN_STEP_SECONDS:
                return report
        return None

    def again(self, wait: float = 0.0) -> None:
        """Start over from the store, with the memory that the failed attempt held."""
        time.sleep(wait)
        self.attempts += 1
        self.close()
        self.points.clear()
        self.rungs.clear()
        release_memory()

    def _check_place(self) -> None:
        """Refuse a directory that is not the study's: writing would make it look like one."""
        if not self.place.exists(paths.trial_record(self.number)):
            raise StorageError(
                f"{self.place.location} on {socket.gethostname()} does not hold trial {self.number}, which was issued: "
                "it is not the storage that the launch writes to, or its files have gone"
            )

    def _start(self) -> Generator[Report, None, None]:
        self._check_place()
        for module in self.config["spec"].get("plugins", ()):
            importlib.import_module(module)
        trial = TrialSpec.model_validate(self.config["spec"])
        device = assigned_device(self.config["resources"].get("GPU", 0))
        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        data = tensors.load(trial.data, device)
        known = self.config["fingerprint"]
        if data.fingerprint != known:
            raise DataError(
                f"the data on {socket.gethostname()} differ from those the study was made with "
                f"(fingerprint {data.fingerprint[:12]}, not {known[:12]})"
            )
        rungs = PartialSchedule.model_validate(self.config["rungs"]) if self.config.get("rungs") else None
        screen = Screen.model_validate(self.config["screen"]) if self.config.get("screen") else None
        # A plug-in's code is in no key: what another study computed with it may differ.
        stages = Stages(self.place, None if trial.plugins else self.place.parent())
        study = self.config["study"]
        return Run(trial, data, stages, self.number, study, device, rungs=rungs, screen=screen).reports()

    def end(self, failure: Failure | None) -> None:
        """Record how the trial ended."""
        outcome = Outcome(
            number=self.number,
            state="failed" if failure else "complete",
            points=tuple(self.points),
            rungs=tuple(self.rungs),
            failure=failure,
            started=self.started.isoformat(timespec="seconds"),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=time.monotonic() - self.clock,
            host=socket.gethostname(),
            params=self.config.get("params", {}),
            versions=versions(),
        )
        self._check_place()
        self.place.claim(paths.outcome(self.number), outcome.json_bytes())
        self.over = True
        self.close()

    def close(self) -> None:
        """Let go of the trial; a training under way stores where it stands, or goes on at its last save."""
        if self.reports is not None:
            reports, self.reports = self.reports, None
            with suppress(StorageError):
                reports.close()


class RobustsearchTrial(tune.Trainable):
    """One trial after another in one process.

    The configuration is plain data: `number`, `study`, `params`, `spec` (a TrialSpec), `fingerprint` of the data,
    `storage` (of the study's directory), `resources`, `title`, `rungs` (a Rungs) where early stopping needs looks at a
    training on its way, and `screen` (a Screen) where points are measured cheaply first. Failures that would come again
    (diverged, bad data, a bug) are recorded at once; out of memory, or where the storage refuses, the trial is tried
    once more with all memory released; a damaged stage is dropped and computed again. A storage that refuses twice
    leaves the trial unfinished, as the result's `storage` says. A process that dies is restarted by Tune and goes on
    from the store; so is one that was told to go by SIGTERM, which does not count as a failure.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Ask for what the cluster file gives a trial."""
        return tune.PlacementGroupFactory([config["resources"]])

    def setup(self, config: dict[str, Any]) -> None:
        """Take on a trial."""
        self._job = _Job(config, Storage(config["storage"]))
        self._notice = Notice()
        self._notice.in_hand = True

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Drop the last trial and take on another, so that one process serves many."""
        leaving = self._notice.given
        self.cleanup()
        release_memory()
        self.setup(new_config)
        self._notice.given = leaving
        return True

    def step(self) -> dict[str, Any]:
        """Work until the next point, or for a moment, and say how far the trial is.

        Raises:
            RayActorError: the worker was told to go; Tune starts the trial elsewhere and does not count it.
        """
        _set_title(self._job.config["title"])
        report: Report | None = None
        refused: StorageError | None = None
        try:
            with self._notice.busy():
                report = self._work()
        except Away:
            self._notice.given = True
        except StorageError as error:
            refused = error
        if self._notice.given and not self._job.over:
            self._notice.leave()
            self._job.close()
            self._notice.in_hand = False
            raise RayActorError(error_msg=f"{socket.gethostname()} told the worker to go", preempted=True)
        self._notice.in_hand = not self._job.over and refused is None
        result = self._result(report)
        return {**result, "storage": str(refused), "done": True} if refused else result

    def _work(self) -> Report | None:
        """Do a step's work, and record the end if there is one.

        Raises:
            StorageError: the storage refuses, so nothing can be recorded.
        """
        job = self._job
        try:
            report = job.advance(self._notice)
            if report is None:
                job.end(None)
            return report
        except Exception as error:  # Recorded as the trial's outcome: one bad trial must not stop the search.
            lost, kind = isinstance(error, StageLost), failure_class(error)
            refused = isinstance(error, StorageError) and not lost
            if job.attempts < (MAX_LOST_STAGES if lost else 2 if kind == "oom" or refused else 0):
                job.again(RETRY_SECONDS if refused else 0)
                return None
            if refused:
                raise
            job.end(Failure(kind=kind, message=str(error)[:2000], traceback=traceback.format_exc()[-8000:]))
            return None

    def cleanup(self) -> None:
        """Let go of the trial; what it had stored stays."""
        self._notice.leave()
        self._job.close()
        self._notice.restore()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Save nothing: the stages are the checkpoint."""
        return {}

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing: the stages are the checkpoint."""

    def _result(self, report: Report | None) -> dict[str, Any]:
        result: dict[str, Any] = {"number": self._job.number, "points": len(self._job.points), "done": self._job.over}
        if report is None:
            return result
        result |= {"phase": report.phase, "phases_done": report.phases_done, "phases": report.phases}
        result["epochs_trained"] = report.epochs_trained
        if report.waits_for is not None:
            result["waits_for"] = report.waits_for
        if report.epoch is not None:
            result |= {"epoch": report.epoch.epoch, "epochs": report.epoch.epochs, "loss": report.epoch.loss}
        if report.point is not None:
            result["point"] = report.point.model_dump_json()
        if report.rung is not None:
            result["rung"] = report.rung.model_dump_json()
        return result


def release_memory() -> None:
    """Give back what finished or failed work still holds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _set_title(title: str) -> None:
    """Name the process after its trial until the step ends, which the dashboard's nodes page and `ps` then show."""
    from ray import _raylet

    _raylet.setproctitle(  # type: ignore[attr-defined]
        f"ray::{title}"
    )
