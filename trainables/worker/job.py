"""One trial on a worker, from its plain configuration to its recorded outcome. It imports no Ray.

The worker writes its own outcome, so a finished trial is on disk whatever happens to the driver.
"""

from __future__ import annotations

import gc
import socket
import time
import traceback
from bdb import BdbQuit
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime
from dis import opmap
from typing import Any

import torch

from trainables.core import heartbeat, plugins
from trainables.core.errors import DataError, NoDevice, StageLost, StorageError, TimedOut, failure_class
from trainables.core.versions import versions
from trainables.data import tensors
from trainables.method.partial import PartialSchedule
from trainables.method.screening import Screen
from trainables.recipes.trial import TrialSpec
from trainables.store import paths
from trainables.store.records import Failure, Outcome, PartialMeasurement, Point
from trainables.store.stages import Stages
from trainables.store.storage import Storage
from trainables.worker.log import TrialLog
from trainables.worker.preemption import Preempted
from trainables.worker.progress import Progress
from trainables.worker.resources import required_device, use_assigned_threads
from trainables.worker.run import Run
from trainables.worker.supervision import Supervision, supervision
from trainables.worker.supervisor import Order

MIN_STEP_SECONDS = 0.5
"""The shortest `work`, unless a measurement or the end comes first: each result costs the driver milliseconds."""

MAX_LOST_STAGES = 50
"""How many damaged stages a trial may meet; each is dropped and computed again in a new attempt."""

RETRY_SECONDS = 1.0
"""The pause before the second attempt on a storage that refuses to be read or written."""


class Job:
    """One trial in a worker process; call `work` until `over`, or `close` to leave the trial unfinished.

    The configuration is plain data: `number`, `study`, `params`, `spec` (a TrialSpec), `fingerprint` of the data,
    `storage` (the address of the study's directory), `resources`, `partial_schedule` (a PartialSchedule, for early
    stopping), `screen` (a Screen, to measure cheaply first) and `timeouts` (seconds by the fields of
    `supervisor.Order`); the last three may be absent. A trial that exceeds a limit of time is recorded as failed, or,
    with `own_process`, ends the process, and a report says why. With `own_process`, lines on stdout say what the trial
    does: the worker's log. `noted` is given all progress at once, also what `work` does not return.

    A failure that an attempt would only repeat (diverged, bad data, a bug) is recorded at once. After an
    out-of-memory error, or where the storage refuses, the trial is tried a second time with all memory released; a
    damaged stage is dropped and computed again.
    """

    def __init__(
        self, config: dict[str, Any], *, own_process: bool = False, noted: Callable[[Progress], None] = lambda _: None
    ) -> None:
        self.config = config
        self.number = int(config["number"])
        self.points: list[Point] = []
        self.partials: list[PartialMeasurement] = []
        self.new: list[Point | PartialMeasurement] = []
        """The measurements that the last `work` gave."""
        self.over = False
        """Whether the outcome is recorded."""
        self._storage = Storage(config["storage"])
        self._started = datetime.now(UTC)
        self._clock = time.monotonic()
        self._attempts = 1
        self._progress: Generator[Progress, None, None] | None = None
        self._record: bytes | None = None
        self._own_process = own_process
        self._noted = noted
        self._reported = False
        self._supervision: Supervision | None = None
        self._log = TrialLog(self.number) if own_process else None

    def work(self, interrupted: Callable[[], bool] = lambda: False) -> Progress | None:
        """Work until a measurement was made or for `MIN_STEP_SECONDS`, and record the outcome if the trial ends.

        What was measured is in `new`, with stored points that were passed on the way.

        The first call returns with the first progress, so that the trial is seen to have started.
        Work also pauses after an epoch where `interrupted()` is true. Returns the last progress when the outcome is
        recorded, or None there and at the end of a failed attempt.

        Raises:
            StorageError: the storage refused twice; the trial has no outcome.
            NoDevice: the worker lost its GPU; the trial has no outcome.
        """
        try:
            with self._working():
                progress = self._advance(interrupted)
                if progress is None or progress.last:
                    self._end(None)
            return progress
        except BaseException as error:  # Recorded as the trial's outcome: one bad trial must not stop the search.
            if ends_the_launch(error):
                raise
            self._fail(error)
            return None

    def _fail(self, error: BaseException) -> None:
        """Start over where another attempt may help, else record the failure.

        Raises:
            StorageError: the storage refused twice.
            NoDevice: the worker lost its GPU.
        """
        if isinstance(error, NoDevice):
            raise error
        lost, kind = isinstance(error, StageLost), failure_class(error)
        refused = isinstance(error, StorageError) and not lost
        if self._attempts < (MAX_LOST_STAGES if lost else 2 if kind == "oom" or refused else 0):
            self._retry(RETRY_SECONDS if refused else 0)
            return
        if refused:
            raise error
        trace = "".join(traceback.format_exception(error))[-8000:]
        message = f"{_message(error)[:2000]}{plugins.source(error)}"
        self._end(Failure(kind=kind, message=message, traceback=trace))

    def close(self) -> None:
        """Leave the trial: a training under way saves its progress, or resumes from its last save."""
        self._release()
        if (supervised := self._supervision) is not None:
            self._supervision = None
            supervised.order(None)

    def _release(self) -> None:
        """Leave what is under way, for good or for another attempt."""
        if self._progress is not None:
            progress, self._progress = self._progress, None
            with suppress(StorageError), self._working():
                progress.close()

    def _working(self) -> AbstractContextManager[None]:
        """Return a block in which a hang is noticed, where the study has limits of time."""
        limits = self.config.get("timeouts") or {}
        if self._supervision is None and any(limits.values()) and (own := supervision()) is not None:
            own.order(Order(self.number, self.config["storage"], kill=self._own_process, **limits))
            self._supervision = own
        if self._supervision is None:
            return nullcontext()
        return self._supervision.working(interruptible=not self._own_process)

    def _advance(self, interrupted: Callable[[], bool]) -> Progress | None:
        began = time.monotonic()
        self.new = []
        if self._progress is None:
            self._progress = self._start()
        for progress in self._progress:
            self._note(progress)
            if progress.point is not None:
                self.points.append(progress.point)
                self.new.append(progress.point)
            if progress.partial is not None:
                self.partials.append(progress.partial)
                self.new.append(progress.partial)
            measured = progress.point is not None or progress.partial is not None
            if progress.last or (measured and not progress.stored):
                return progress
            first, self._reported = not self._reported, True
            if first or interrupted() or time.monotonic() - began >= MIN_STEP_SECONDS:
                return progress
        return None

    def _note(self, progress: Progress) -> None:
        heartbeat.beat()
        self._noted(progress)
        if self._log is not None:
            self._log.progress(progress)
        if self._supervision is not None:
            epoch = f", after epoch {progress.epoch.epoch} of {progress.epoch.epochs}" if progress.epoch else ""
            self._supervision.doing(f"phase {progress.phases_done + 1} of {progress.phases} ({progress.phase}){epoch}")

    def _retry(self, wait: float) -> None:
        """Start over from the stored stages, without the memory of the failed attempt."""
        time.sleep(wait)
        self._attempts += 1
        self._release()
        self.points.clear()
        self.partials.clear()
        release_memory()

    def _start(self) -> Generator[Progress, None, None]:
        self._check_storage()
        plugins.load(self.config["spec"].get("plugins", ()))
        trial = TrialSpec.model_validate(self.config["spec"])
        device = required_device(self.config["resources"].get("GPU", 0))
        use_assigned_threads()
        data = tensors.load(trial.data, device)
        expected = self.config["fingerprint"]
        if data.fingerprint != expected:
            raise DataError(
                f"the data on {socket.gethostname()} differ from those the study was made with "
                f"(fingerprint {data.fingerprint[:12]}, not {expected[:12]})"
            )
        trial.check_lengths(len(data.train))
        due, screen = self.config.get("partial_schedule"), self.config.get("screen")
        # A plug-in's code is in no key: what another study computed with it may differ.
        stages = Stages(self._storage, None if trial.plugins else self._storage.parent())
        study = self.config["study"]
        return Run(
            trial,
            data,
            stages,
            self.number,
            study,
            device,
            partial_schedule=PartialSchedule.model_validate(due) if due else None,
            screen=Screen.model_validate(screen) if screen else None,
        ).progress()

    def _end(self, failure: Failure | None) -> None:
        """Record the outcome, unless one is recorded already."""
        outcome = Outcome(
            number=self.number,
            state="failed" if failure else "complete",
            points=tuple(self.points),
            rungs=tuple(self.partials),
            failure=failure,
            started=self._started.isoformat(timespec="seconds"),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=time.monotonic() - self._clock,
            host=socket.gethostname(),
            params=self.config.get("params", {}),
            versions=versions(),
        )
        self._check_storage()
        self._storage.claim(paths.outcome(self.number), outcome.json_bytes())
        self.over = True
        if self._log is not None:
            self._log.end(outcome)
        self.close()

    def _check_storage(self) -> None:
        """Refuse a directory that is not the study's, or no longer: writing to it would make it look like one."""
        try:
            record = self._storage.read(paths.trial_record(self.number))
        except FileNotFoundError:
            record = None
        if self._record is None:
            self._record = record
        if record is None or record != self._record:
            raise StorageError(
                f"{self._storage.location} on {socket.gethostname()} does not hold trial {self.number}, which was "
                "issued: it is not the storage that the launch writes to, or its files were deleted"
            )


def ends_the_launch(error: BaseException) -> bool:
    """Return whether an error is not a failure of the trial: the machine or the user wants its process to end.

    A trial's own code may raise KeyboardInterrupt too, but a signal's handler is what raises that of a user.
    """
    if isinstance(error, KeyboardInterrupt) and (trace := error.__traceback__) is not None:
        while trace.tb_next is not None:
            trace = trace.tb_next
        raises = trace.tb_frame.f_code.co_code[trace.tb_lasti] == opmap["RAISE_VARARGS"]
        return not raises or trace.tb_frame.f_globals.get("__name__", "").startswith("search.")
    return isinstance(error, (BdbQuit, Preempted))


def _message(error: BaseException) -> str:
    """Return what an error says, and what it is where that alone says little."""
    if not isinstance(error, (Exception, TimedOut)):
        return f"the code of the trial raised {error!r}; a trial must not end its process"
    said = str(error)
    return said if said.strip() and not isinstance(error, KeyError) else f"{type(error).__name__}: {said}".rstrip(": ")


def release_memory() -> None:
    """Free the memory of finished or failed work."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
