"""Run trials on Ray Tune: a searcher, a scheduler, a stopper and a callback that translate for the driver."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import ray
from ray import tune
from ray.air._internal import usage
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.cluster.base import Cluster
from search.cluster.folder import launch_folder
from search.cluster.probing import REPORT_SECONDS
from search.launch.actor_names import NamedActors, NamedCalls
from search.launch.actor_reuse import ActorReuse
from search.launch.driver import Driver
from search.launch.gauges import Gauges
from search.launch.tally import Snapshot
from search.launch.trial_config import common_config, trial_config
from search.launch.view import VIEW_SECONDS
from trainables.core.errors import RobustsearchError, StorageError
from trainables.store.records import Failure, PartialMeasurement, Point
from trainables.store.storage import Address
from trainables.worker.tune_trainable import RobustsearchTrial

WORKER_EXIT = "Worker exit detail"
"""How Ray introduces what the raylet of a node knows of a worker that died."""
LOST_SECONDS = 3.0
"""How long the driver waits for the report on a worker that may have died with its node."""

TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "20",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}
"""Tune's own snapshots and loggers are off: the study's records are the truth."""


class _Live:
    """Base of objects that are never restored: Tune pickles and copies all that it is given."""

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class TuneSearcher(_Live, Searcher):
    """Pass the driver's trials to Tune, and Tune's results to the driver."""

    def __init__(self, driver: Driver, should_end: Callable[[], bool], common: dict[str, Any]) -> None:
        """Wrap a driver; no trial starts once `should_end()`, and `common` is part of every configuration."""
        super().__init__()
        self._driver = driver
        self._should_end = should_end
        self._common = common
        self._numbers: dict[str, int] = {}
        self.crash: Failure | None = None
        """What Ray says of the process that died last."""
        self.problem: RobustsearchError | None = None
        """An error of the storage or the study; no trial is issued after it."""

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of the next trial, None where none can start yet, or FINISHED."""
        if self.over():
            return Searcher.FINISHED
        try:
            record = self._driver.next()
        except RobustsearchError as problem:
            self.problem = problem
            return Searcher.FINISHED
        if record is None:
            return None if self._driver.waiting else Searcher.FINISHED
        self._numbers[trial_id] = record.number
        return trial_config(self._driver, record, self._common)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass on progress, measurements, or that the worker's storage refuses."""
        if "storage" in result:
            self.problem = self.problem or StorageError(result["storage"])
        if self.problem is not None:
            return
        number = self._numbers[trial_id]
        said = {name: result[name] for name in ("epoch", "loss", "waits_for") if name in result}
        host = str(result.get("hostname", ""))  # Tune adds it.
        self._driver.on_progress(number, result.get("phases_done", 0), **said, host=host)
        for kind, text in result.get("new", ()):
            if kind == Point.__name__:
                self._driver.on_point(number, Point.model_validate_json(text))
            else:
                self._driver.on_partial(number, PartialMeasurement.model_validate_json(text))

    def stops(self, trial_id: str) -> bool:
        """Return whether a running trial should stop early."""
        return self._driver.stops(self._numbers[trial_id])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass on a trial's end, or that its process died: the driver counts that, and issues it again."""
        if result and result.keys() & {"new", "storage"}:
            self.on_trial_result(trial_id, result)
        number = self._numbers[trial_id]
        try:
            # A process that dies while the launch ends is not a crash of its trial.
            if error and not self.over():
                self._driver.on_crash(number, self.crash, report_seconds(self.crash))
            else:
                self._driver.on_end(number, None)
        except RobustsearchError as problem:  # Tune would wrap it in a traceback; `run` raises it as it is.
            self.problem = self.problem or problem

    def over(self) -> bool:
        """Return whether the experiment must end."""
        try:
            return self.problem is not None or self._should_end()
        except RobustsearchError as problem:
            self.problem = problem
            return True

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the records are the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the records are the truth."""


class EarlyStopper(_Live, FIFOScheduler):
    """Stop a trial where the driver says so; trials start in the order in which it issues them."""

    def __init__(self, searcher: TuneSearcher, actors: NamedActors) -> None:
        """Ask the searcher's driver; workers are named by `actors`."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher
        self._actors = actors

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Give the workers names and let all of them start, before the first of them does."""
        super().on_trial_add(tune_controller, trial)
        with suppress(AttributeError):  # Another version of Tune may keep its classes and actors elsewhere.
            self._actors.use_in(tune_controller)
            ActorReuse.use_in(tune_controller)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Note what Ray says of a process that died, just before the searcher hears of it."""
        self._searcher.crash = None
        with suppress(OSError, TypeError):
            self._searcher.crash = crash(Path(trial.error_file).read_text(errors="replace"))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Pass the result on first: Tune does not give a searcher the result with which a trial stops."""
        self._searcher.on_trial_result(trial.trial_id, result)
        return str(TrialScheduler.STOP if self._searcher.stops(trial.trial_id) else TrialScheduler.CONTINUE)


class _Stopper(_Live, tune.Stopper):
    """End the experiment when the launch should end."""

    def __init__(self, should_end: Callable[[], bool]) -> None:
        self._should_end = should_end

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._should_end()


class _Watch(_Live, tune.Callback):
    """Show the progress, at most once in `VIEW_SECONDS`."""

    def __init__(
        self, driver: Driver, searcher: TuneSearcher, view: Callable[[Snapshot], None], gauges: Gauges
    ) -> None:
        self._driver = driver
        self._searcher = searcher
        self._view = view
        self._gauges = gauges
        self._last = 0.0

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        with suppress(AttributeError):  # As above; a search does without names.
            NamedCalls.of(trial.temporary_state.ray_actor).name = trial.config["title"]

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if time.monotonic() - self._last >= VIEW_SECONDS:
            try:
                snapshot = self._driver.snapshot()
            except RobustsearchError as problem:
                self._searcher.problem = self._searcher.problem or problem
                return
            self._view(snapshot)
            self._gauges.set(snapshot)
            self._last = time.monotonic()


def run(
    driver: Driver,
    cluster: Cluster,
    concurrency: int,
    storage: Address,
    *,
    view: Callable[[Snapshot], None],
    should_end: Callable[[], bool],
) -> None:
    """Run the study's trials on the connected cluster until the budget is issued or `should_end()`.

    `storage` is the address of the study's directory. Trials that run when `should_end()` turns true save
    their progress and stay unfinished.

    Raises:
        RobustsearchError: the storage refused in the middle; what is recorded stays.
    """
    os.environ.update(TUNE_SETTINGS)
    searcher = TuneSearcher(driver, should_end, common_config(driver, cluster, storage))
    unique, own = f"job {ray.get_runtime_context().get_job_id()}", getattr(cluster, "starts_ray", False)
    actors = NamedActors(f"{driver.spec.name} worker", unique, own_workers=own)
    with launch_folder() as cache:
        tuner = tune.Tuner(
            RobustsearchTrial,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=EarlyStopper(searcher, actors),
                num_samples=-1,
                max_concurrent_trials=concurrency,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=driver.spec.name,
                storage_path=str(cache),
                stop=_Stopper(searcher.over),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                # Tune restarts what was preempted; what crashed returns to the driver. Tune's own count would be
                # ignored where a node is lost just when a worker changes from one trial to the next.
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[_Watch(driver, searcher, view, Gauges())],
                verbose=0,
            ),
        )
        with _uncounted():
            tuner.fit()
    if searcher.problem is not None:
        raise searcher.problem
    view(driver.snapshot())


@contextmanager
def _uncounted() -> Iterator[None]:
    """Leave out what Tune counts for Ray's statistics of usage, which are off: it loads every tracker to do so."""
    counted = usage.tag_callbacks
    usage.tag_callbacks = lambda callbacks: False
    try:
        yield
    finally:
        usage.tag_callbacks = counted


def crash(said: str) -> Failure:
    """Return a failure by what Ray says of a process that died; its own monitor of memory may have ended it."""
    said = said.rpartition("\nFailure #")[2]
    detail = re.search(WORKER_EXIT + r": (.*?)(?:\. |\n|$)", said)
    lines = [line.strip() for line in said.splitlines()[1:] if line.strip()]
    # An error that was raised stands below its traceback.
    raised = bool(lines) and lines[0].startswith("ray::")
    line = re.sub(r"^(\w+\.)+(?=\w+:)", "", lines[-1]) if raised else lines[0] if lines else ""
    oom = re.search(r"OutOfMemoryError|due to the node running low on memory|memory (usage )?threshold", said)
    kind = "oom" if oom else "crashed"
    return Failure(
        kind=kind, message=f"its process died: {detail[1] if detail else line}"[:500], traceback=said[-8000:]
    )


def report_seconds(known: Failure | None) -> float:
    """Return how long a report on a worker that died is waited for, by what Ray says of it.

    The supervisor dies with its node and leaves none. Where Ray tells how the process ended, the node lived.
    """
    return REPORT_SECONDS if known is not None and WORKER_EXIT in known.traceback else LOST_SECONDS


def _trial_name(trial: Any) -> str:
    return f"trial-{trial.config['number']:05d}"
