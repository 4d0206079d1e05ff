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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch
from ray import tune

from trainables import paths
from trainables.data import tensors
from trainables.errors import DataError, StageLost, failure_class
from trainables.outcome import Failure, Outcome, Point
from trainables.run import Report, Run, assigned_device
from trainables.spec import TrialSpec
from trainables.stages import Stages
from trainables.storage import Storage
from trainables.versions import versions

MIN_STEP_SECONDS = 0.5
"""A step lasts at least so long, unless a point or the end comes first: reports cost milliseconds each."""

MAX_LOST_STAGES = 50
"""How often a trial starts over because a stage that it needs is damaged: each time one more has been dropped."""


@dataclass
class _Job:
    """The trial that a worker has in hand. Apart from the trainable, whose base class has attributes of its own."""

    config: dict[str, Any]
    place: Storage
    points: list[Point] = field(default_factory=list)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.monotonic)
    reports: Generator[Report, None, None] | None = None
    over: bool = False
    attempts: int = 1

    @property
    def number(self) -> int:
        return int(self.config["number"])

    def advance(self) -> Report | None:
        """Work until the next point or for a moment; None when the trial is complete."""
        began = time.monotonic()
        if self.reports is None:
            self.reports = self._start()
        for report in self.reports:
            if report.point is not None:
                self.points.append(report.point)
                return report
            if time.monotonic() - began >= MIN_STEP_SECONDS:
                return report
        return None

    def again(self) -> None:
        """Start over from the store, with the memory that the failed attempt held."""
        self.attempts += 1
        self.close()
        self.points.clear()
        release_memory()

    def _start(self) -> Generator[Report, None, None]:
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
        # A plug-in's code is in no key: what another study computed with it may differ.
        stages = Stages(self.place, None if trial.plugins else self.place.parent())
        return Run(trial, data, stages, self.number, self.config["study"], device).reports()

    def end(self, failure: Failure | None) -> None:
        """Record how the trial ended."""
        outcome = Outcome(
            number=self.number,
            state="failed" if failure else "complete",
            points=tuple(self.points),
            failure=failure,
            started=self.started.isoformat(timespec="seconds"),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=time.monotonic() - self.clock,
            host=socket.gethostname(),
            versions=versions(),
        )
        self.place.claim(paths.outcome(self.number), outcome.json_bytes())
        self.over = True
        self.close()

    def close(self) -> None:
        """Let go of the trial; a training under way stores where it stands."""
        if self.reports is not None:
            self.reports.close()
            self.reports = None


class RobustsearchTrial(tune.Trainable):
    """One trial after another in one process.

    The configuration is plain data: `number`, `study`, `spec` (a TrialSpec), `fingerprint` of the
    data, `storage` (of the study's directory), `resources` and `title`. Failures that would come again
    (diverged, bad data, a bug) are recorded at once; out of memory, the trial is tried once more with all memory
    released; a damaged stage is dropped and computed again; a process that dies is restarted by Tune and goes on
    from the store.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Ask for what the cluster file gives a trial."""
        return tune.PlacementGroupFactory([config["resources"]])

    def setup(self, config: dict[str, Any]) -> None:
        """Take on a trial."""
        self._job = _Job(config, Storage(config["storage"]))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Drop the last trial and take on another, so that one process serves many."""
        self._job.close()
        release_memory()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Work until the next point, or for a moment, and say how far the trial is."""
        _set_title(self._job.config["title"])
        report: Report | None = None
        try:
            report = self._job.advance()
            if report is None:
                self._job.end(None)
        except Exception as error:  # Recorded as the trial's outcome: one bad trial must not stop the search.
            kind = failure_class(error)
            if self._job.attempts < (MAX_LOST_STAGES if isinstance(error, StageLost) else 2 if kind == "oom" else 0):
                self._job.again()
            else:
                self._job.end(Failure(kind=kind, message=str(error)[:2000], traceback=traceback.format_exc()[-8000:]))
        return self._result(report)

    def cleanup(self) -> None:
        """Let go of the trial; what it had stored stays."""
        self._job.close()

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
