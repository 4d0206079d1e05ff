"""Run trials in this process, one after another, without Ray: for debuggers, notebooks and tests.

The trials run the code of a worker (`trainables.worker.job`); only the transport differs from `search.launch.tune`.
"""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from search.cluster.base import Cluster
from search.launch.driver import Driver
from search.launch.tally import Snapshot
from search.launch.trial_config import common_config, trial_config
from search.launch.view import VIEW_SECONDS
from trainables.store.records import PartialMeasurement, Point, TrialRecord
from trainables.store.storage import Address

View = Callable[[Snapshot], None]


def run(
    driver: Driver,
    cluster: Cluster,
    concurrency: int,
    storage: Address,
    *,
    view: View,
    should_end: Callable[[], bool],
) -> None:
    """Run the study's trials in order until the budget is issued or `should_end()`; see `search.launch.tune.run`.

    `concurrency` is 1. A trial that runs when `should_end()` turns true saves its progress at the end of its epoch and
    stays unfinished.

    Raises:
        RobustsearchError: the storage refused; what is recorded stays.
    """
    assert concurrency == 1
    common = common_config(driver, cluster, storage)
    running = _Running(driver, view, should_end)
    with ExitStack() as stack:
        while not should_end() and (record := driver.next()) is not None:
            running.trial(record, trial_config(driver, record, common))
            if not gc.get_freeze_count():
                gc.freeze()  # What the first trial has loaded stays; to look at it takes the collector 0.1 s a trial.
                stack.callback(gc.unfreeze)
        view(driver.snapshot())


class _Running:
    """The loop around one trial after another."""

    def __init__(self, driver: Driver, view: View, should_end: Callable[[], bool]) -> None:
        self._driver = driver
        self._view = view
        self._should_end = should_end
        self._shown = 0.0
        self._host = socket.gethostname()

    def trial(self, record: TrialRecord, config: dict[str, Any]) -> None:
        """Run a trial until its outcome is recorded, it is stopped early, or the launch should end."""
        from trainables.worker.job import Job, release_memory

        job = Job(config)
        try:
            while not (job.over or self._driver.stops(record.number) or self._should_end()):
                self._report(record.number, job.work(), job.new)
        finally:
            job.close()
            release_memory()
        self._driver.on_end(record.number, None)

    def _report(self, number: int, progress: Any, new: Sequence[Point | PartialMeasurement]) -> None:
        """Pass what a trial has done and measured to the driver; no progress where it ended or starts over."""
        if progress is not None:
            epoch = progress.epoch
            said = {"epoch": epoch.epoch, "loss": epoch.loss} if epoch is not None else {}
            said |= {"waits_for": progress.waits_for, "host": self._host}
            self._driver.on_progress(number, progress.phases_done, **said)
            for one in new:
                if isinstance(one, Point):
                    self._driver.on_point(number, one)
                else:
                    self._driver.on_partial(number, one)
        if time.monotonic() - self._shown >= VIEW_SECONDS:
            self._view(self._driver.snapshot())
            self._shown = time.monotonic()
