"""A launch from end to end: open or create the study, check the cluster, run, and say how it ended."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.cluster.spec import Address, Cluster, ClusterError, Local
from search.cluster.watchdog import Interrupt, Watchdog
from search.launch import warm_start
from search.store import allowed_changes, driver_lock
from search.store.records import Fingerprint, Records
from search.study import spec as study_spec
from search.study.spec import StudySpec
from search.study.trials import rim_trials
from trainables.core.errors import SpecError
from trainables.store.lease import Lease
from trainables.store.storage import Storage

Say = Callable[[str], None]

COMPLETE, NO_FEASIBLE_POINT, TRIALS_FAILED, INTERRUPTED = 0, 3, 4, 130


@dataclass(frozen=True)
class Ending:
    """How a launch ended: the command's exit code and the last line it prints."""

    exit_code: int
    message: str


@dataclass(frozen=True)
class Prepared:
    """A study that may run: whether it `exists`, and what it means that it was changed on purpose, a line each."""

    spec: StudySpec
    exists: bool
    effects: tuple[str, ...] = ()


def prepare(spec: StudySpec, storage: Storage, *, allow_change: bool = False) -> Prepared:
    """Compare a study with the one that is stored under its name.

    What a stored study may not change silently is refused; its budget may grow. With `allow_change`, so may its space,
    and a few things may change.

    Raises:
        SpecError: the stored study searches or measures something else.
    """
    if not Records.exist(storage):
        return Prepared(spec, exists=False)
    records = Records.open(storage)
    spec = _with_precision(spec, records.spec.recipe.train.precision)
    differences = study_spec.changes(records.spec, spec)
    if differences and allow_change:
        return Prepared(spec, True, tuple(allowed_changes.effects(records, spec)))
    if differences:
        allowed = " or --allow-change" if allowed_changes.may_be_allowed(records.spec, spec) else ""
        listed = "\n".join(f"  {line}" for line in differences)
        raise SpecError(
            f"{storage.location} holds a study that differs from this one:\n{listed}\n"
            f"its points and new ones could not be compared; launch under another --name{allowed}"
        )
    return Prepared(spec, exists=True)


def _with_precision(spec: StudySpec, precision: str) -> StudySpec:
    """Write down what `auto` stands for, so that keys do not depend on where a trial runs."""
    train = spec.recipe.train
    if train.precision != "auto":
        return spec
    recipe = spec.recipe.model_copy(update={"train": train.model_copy(update={"precision": precision})})
    return spec.model_copy(update={"recipe": recipe})


def launch(
    spec: StudySpec,
    cluster: Cluster,
    storage: Storage,
    *,
    view: Callable[[Any], None],
    say: Say,
    allow_change: bool = False,
) -> Ending:
    """Run the study in `storage` on the cluster until its budget is spent or somebody stops it.

    `view` is given a `search.launch.driver.Snapshot` about once a second; `allow_change` is that of `prepare`.

    Raises:
        SpecError, StorageError, ClusterError, Held: before any trial starts.
    """
    prepared = prepare(spec, storage, allow_change=allow_change)
    fresh = not storage.exists("")
    try:
        with driver_lock.acquire(storage) as held:
            if held.before:
                say(f"took over the study from {held.before}, which is gone")
            return _run(prepared, cluster, storage, held, view, say)
    finally:
        if fresh and storage.local and not storage.names(""):
            os.rmdir(storage.local)


def _run(
    prepared: Prepared, cluster: Cluster, storage: Storage, held: Lease, view: Callable[[Any], None], say: Say
) -> Ending:
    from search.cluster import connection as ray_cluster

    spec = prepared.spec
    interrupt = Interrupt()

    def broken() -> Ending:
        """Say how a launch ended that could not end in order."""
        if interrupt.cluster_died and interrupt.signal is None:
            return Ending(ClusterError.exit_code, f"the Ray cluster has died; {_goes_on(storage)}")
        return Ending(_stopped(interrupt.signal), f"interrupted; {_goes_on(storage)}")

    def last_words() -> int:
        held.release()
        ending = broken()
        say(ending.message)
        return ending.exit_code

    watchdog = Watchdog(interrupt, last_words)
    with (
        watchdog.watching(),
        ray_cluster.connected(cluster, code_paths(cluster, spec.plugins)) as connection,
        watchdog.over(connection.alive),
        interrupt.caught(),
    ):
        if connection.nodes > 1 and storage.local:
            say(f"storage {storage.location} must be a directory that all {connection.nodes} nodes share")

        def told_to_stop() -> bool:
            return interrupt.signal is not None or driver_lock.stop_requested(storage)

        found = ray_cluster.ask_worker(cluster, spec, storage.location, gone=told_to_stop, say=say)
        if found is None:
            return Ending(_stopped(interrupt.signal), "stopped before the first trial")
        _check_images(spec, found["train"], found["validation"])
        spec = _with_precision(spec, found["precision"])
        records = _records(spec, storage, found, say, prepared.effects)
        # Everything that loads Optuna comes after the checks, which answer faster without it.
        from search.launch import tune
        from search.launch.driver import Driver

        driver = Driver(records, cluster.gpus_per_trial, ahead=2 * connection.capacity)
        say(_beginning(spec, connection.capacity, found, storage))
        if connection.dashboard:
            say(f"Ray dashboard: {connection.dashboard}")

        def gone() -> bool:
            held.check()
            return told_to_stop() or interrupt.cluster_died or driver.stop_reason() is not None

        try:
            tune.run(driver, cluster, connection.capacity, storage.location, view=view, gone=gone)
        except KeyboardInterrupt:
            return broken()
        except Exception:
            if interrupt.cluster_died:  # Whatever Ray makes of that.
                return broken()
            raise
        return broken() if interrupt.cluster_died else _ending(driver, storage, interrupt.signal)


def _check_images(spec: StudySpec, training: int, validation: int) -> None:
    """Refuse a study whose trials want more images than there are.

    Raises:
        SpecError: names the field.
    """
    held = max(trial.recipe.train.select for trial in rim_trials(spec))
    if held >= training:
        raise SpecError(f"recipe.train.select holds back {held} of {training} training images, which leaves none")
    wanted = spec.protocol.examples
    if wanted is not None and wanted > validation:
        raise SpecError(f"protocol.examples is {wanted}, but there are {validation} validation images")


def _beginning(spec: StudySpec, capacity: int, found: dict[str, Any], storage: Storage) -> str:
    return (
        f"{spec.name}: {spec.budget.trials} trials, {capacity} at once on {found['device']}, "
        f"{found['precision']}; {found['train']} training and {found['validation']} validation images; "
        f"in {storage.location}"
    )


def _goes_on(storage: Storage) -> str:
    return f"`robustsearch launch` with the same study goes on in {storage.location}"


def _records(
    spec: StudySpec, storage: Storage, found: dict[str, Any], say: Say, effects: tuple[str, ...] = ()
) -> Records:
    """Create the study, with what others teach it, or open it and refuse other data.

    Raises:
        SpecError: the data are not those that the study was made with.
    """
    if not Records.exist(storage):
        fingerprint = Fingerprint(data_hash=found["fingerprint"], shape=found["shape"], classes=found["classes"])
        taught = warm_start.gather(spec, storage.parent(), fingerprint.data_hash)
        if spec.warm_start:
            say(warm_start.told(taught, spec))
        return Records.create(storage, spec, fingerprint, taught)
    records = Records.open(storage)
    if records.fingerprint.data_hash != found["fingerprint"]:
        raise SpecError(
            f"the data differ from those {storage.location} was made with (fingerprint {found['fingerprint'][:12]}, "
            f"not {records.fingerprint.data_hash[:12]}); its points and new ones could not be compared"
        )
    if spec != records.spec:
        records.replace_spec(spec, effects)
    return records


def _stopped(signal_number: int | None) -> int:
    return 128 + signal_number if signal_number else INTERRUPTED


def _ending(driver: Any, storage: Storage, signal_number: int | None) -> Ending:
    snapshot = driver.snapshot()
    early = f", {snapshot.stopped} stopped early" if snapshot.stopped else ""
    state = f"{snapshot.complete} of {snapshot.target} trials complete{early}, {snapshot.failed} failed"
    if signal_number is not None or driver_lock.stop_requested(storage):
        return Ending(_stopped(signal_number), f"stopped: {state}; {_goes_on(storage)}")
    reason = driver.stop_reason()
    ended = f"{reason}: " if reason else ""
    if snapshot.failed and not snapshot.complete:
        return Ending(TRIALS_FAILED, f"too many trials failed: {state}; {reason or 'see `robustsearch status`'}")
    if not snapshot.front:
        return Ending(NO_FEASIBLE_POINT, f"{ended}no feasible point: {state}; `robustsearch front` lists the nearest")
    return Ending(
        COMPLETE,
        f"{ended}{state}; {snapshot.points} point{'' if snapshot.points == 1 else 's'}, {snapshot.front} on the front, "
        f"hypervolume {snapshot.hypervolume:.4f}, {snapshot.elapsed:.0f} s",
    )


def code_paths(cluster: Cluster, plugins: tuple[str, ...]) -> tuple[str, ...]:
    """Return the packages and modules that travel to the workers: plug-ins, and `trainables` where it is shipped.

    Raises:
        SpecError: a plug-in cannot be found.
    """
    names = [plugin.split(".")[0] for plugin in plugins]
    if isinstance(cluster, Address) and cluster.code == "ship":
        names.append("trainables")
    found = []
    for name in dict.fromkeys(names):
        module = importlib.util.find_spec(name)
        if module is None or not (module.origin or module.submodule_search_locations):
            raise SpecError(f"plug-in module {name!r} is not importable here")
        folders = list(module.submodule_search_locations or ())
        path = Path(folders[0] if folders else str(module.origin))
        if name == "trainables" or isinstance(cluster, Local) or "site-packages" not in path.parts:
            found.append(str(path))
    return tuple(found)


def resized(spec: StudySpec, trials: str | None, stored: int | None) -> StudySpec:
    """Apply `--trials`: a number, or `+N` more than the stored study's budget. Trials that have run stay.

    Raises:
        SpecError: not a positive number.
    """
    if trials is None:
        return spec if stored is None else _budget(spec, max(spec.budget.trials, stored))
    text = trials.removeprefix("+")
    if not text.isdecimal() or int(text) == 0:
        raise SpecError(f"--trials {trials}: expected a positive number such as 20, or +20 for so many more")
    total = int(text) + ((stored or 0) if trials.startswith("+") else 0)
    return _budget(spec, total)


def _budget(spec: StudySpec, trials: int) -> StudySpec:
    return spec.model_copy(update={"budget": spec.budget.model_copy(update={"trials": trials})})
