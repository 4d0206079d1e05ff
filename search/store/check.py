"""What is wrong in a study's directory: truncated records, damaged stages, and leftovers of killed processes.

Nothing is changed, and neither torch nor Ray is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import ValidationError
from safetensors import SafetensorError, deserialize

from search.store import confirmations, live
from search.store.consistency import unproven
from search.store.records import Records
from trainables.core.errors import RobustsearchError, StageDamaged, StorageError
from trainables.store import lease, paths
from trainables.store.checksum import checksum_fault
from trainables.store.consistency import contradiction
from trainables.store.records import Point, TrialRecord
from trainables.store.stages import Stages
from trainables.store.storage import Storage

Kind = Literal["study", "foreign", "trial", "outcome", "stage", "confirmation", "gap", "lease", "leftover"]
HARMLESS = ("confirmation", "gap", "lease", "leftover")
"""Faults that prevent nothing: the next launch deals with them, or they only take space."""


@dataclass(frozen=True)
class Fault:
    """One fault: the file or directory, relative to the study's, and what is wrong with it."""

    kind: Kind
    path: str
    message: str
    number: int | None = None

    @property
    def harmless(self) -> bool:
        """Whether the study is intact nevertheless."""
        return self.kind in HARMLESS

    def plain(self) -> dict[str, Any]:
        """Return the fault as JSON-able data."""
        return {**asdict(self), "harmless": self.harmless}


Opened = tuple[Records | None, list[Fault]]
"""The records of a study, None where they cannot be read, and what is wrong with its `study.yaml`."""


def faults(storage: Storage, *, alone: bool = False, weights: bool = True, study: Opened | None = None) -> list[Fault]:
    """Read everything in a study's directory, `weights` too, and list what is wrong.

    While a launch runs, nothing counts as a leftover; `alone` means that the caller holds the lease. `study` is what
    `opened` returned, where it was called before.

    Raises:
        StorageError: the storage cannot be read.
    """
    busy = not alone and lease.living_holder(storage, paths.DRIVER) is not None
    records, wrong = study or opened(storage)
    found = [*wrong]
    resumed: set[str] = set()
    if records is not None:
        found += [*_warm_start(records), *_records(records), *_gaps(records), *_proofs(records)]
        resumed = records.unfinished_keys()
    for key in storage.names(paths.STAGES):
        if storage.is_link(paths.stage(key)):  # What it leads to is not this study's.
            continue
        wanted = busy or records is None or key in resumed
        found += [*(_contents(storage, key) if weights else ()), *_remains(storage, key, wanted=wanted)]
    found += _confirmations(storage)
    if not busy:
        found += [*(() if alone else _lease(storage)), *leftovers(storage)]
    return found


def opened(storage: Storage) -> Opened:
    """Open a study by its `study.yaml`, else by the copy, and return what is wrong with the former."""
    try:
        return Records.open(storage), []
    except RobustsearchError as error:
        foreign = type(error) is StorageError and Records.exist(storage)
        fault = Fault("foreign" if foreign else "study", paths.STUDY, str(error))
    try:
        return Records.open(storage, paths.STUDY_COPY), [fault]
    except RobustsearchError:
        return None, [fault]


def _warm_start(records: Records) -> Iterator[Fault]:
    try:
        records.warm_start_points()
    except StorageError as error:
        yield Fault("study", paths.WARM_START, str(error))


def _records(records: Records) -> Iterator[Fault]:
    for damaged in records.damaged():
        if damaged.foreign:
            yield Fault("foreign", damaged.path, damaged.reason, damaged.number)
        elif damaged.path == paths.trial_record(damaged.number):
            yield Fault("trial", damaged.path, damaged.reason, damaged.number)
        else:
            yield Fault("outcome", damaged.path, damaged.reason, damaged.number)


def _proofs(records: Records) -> Iterator[Fault]:
    """Compare each trial with what its parameters give, and its points with the stored measurements and weights."""
    stages, data_hash = Stages(records.storage), records.fingerprint.data_hash
    for trial, outcome in records.trials():
        if reason := unproven(records.spec, data_hash, trial, None):
            yield Fault("trial", paths.trial_record(trial.number), reason, trial.number)
        elif outcome:
            reasons = (_unlike_stored(stages, trial, point) for point in outcome.points)
            whole = unproven(records.spec, data_hash, trial, outcome)
            if reason := whole or next(filter(None, reasons), None):
                yield Fault("outcome", paths.outcome(trial.number), reason, trial.number)


def _unlike_stored(stages: Stages, trial: TrialRecord, point: Point) -> str | None:
    """Return what in a point is not that of the measurement or of the stage that is stored under its keys."""
    if names := _differing(stages.find_point(point.key), point):
        return f"point {point.measure}: another {' and '.join(names)} than in {paths.point(point.key)}"
    stage = stages.find(point.stage)
    # Another trial may have computed it anew since, on a device that rounds differently.
    own = stage is not None and (stage.study, stage.trial) == (trial.study, trial.number)
    if stage is not None and own and stage.weights_sha256 not in (None, point.weights_sha256):
        return f"point {point.measure}: weights_sha256 is not that of its stage {point.stage[:12]}"
    return None


_MEASURED = ("clean_correct", "robust_correct", "verdicts", "nonzero", "prunable")


def _differing(stored: Point | None, point: Point) -> list[str]:
    """Return what differs between two records of one measurement; on other weights it may have been made again."""
    if stored is None or stored.weights_sha256 != point.weights_sha256 or stored.device != point.device:
        return []
    return [name for name in _MEASURED if getattr(stored, name) != getattr(point, name)]


def _gaps(records: Records) -> Iterator[Fault]:
    known = {trial.number for trial, _ in records.trials()} | {damaged.number for damaged in records.damaged()}
    for number in sorted(set(range(max(known, default=-1))) - known):
        message = "a later trial has a record but this one has not; the next launch issues the number again"
        yield Fault("gap", paths.trial(number), message, number)


def _contents(storage: Storage, key: str) -> Iterator[Fault]:
    """Check the files of a stage against its description."""
    folder = paths.stage(key)
    names = storage.names(folder)
    if paths.STAGE in names and (reason := _weights(storage, key)):
        yield Fault("stage", folder, f"{reason}; it is computed again when a trial needs it")
    if paths.POINT in names and (reason := _point(storage, key)):
        yield Fault("stage", folder, f"{reason}; it is measured again when a trial needs it")


def _remains(storage: Storage, key: str, *, wanted: bool) -> Iterator[Fault]:
    """Look for what nobody needs; `wanted` where a trial may be computing the stage, or will at the next launch."""
    folder = paths.stage(key)
    names = storage.names(folder)
    if storage.local is None and not names:
        return  # Some servers list a folder for a while after the last object in it was deleted.
    begun = [name for name in names if name.startswith(paths.PROGRESS)]
    if wanted:
        torn = [name for name in begun if not _readable(storage, f"{folder}/{name}")]
        yield from (Fault("leftover", f"{folder}/{name}", "a saved epoch that cannot be read") for name in torn)
    elif paths.STAGE not in names and paths.POINT not in names:
        yield Fault("leftover", folder, "an incomplete stage that no trial resumes")
    else:
        yield from (Fault("leftover", f"{folder}/{name}", "progress of a stage that is complete") for name in begun)


def _weights(storage: Storage, key: str) -> str | None:
    """Return what is wrong with a stored stage; None where its files are what was stored."""
    try:
        stage = Stages(storage).description(key)
        for name, digest in stage.files.items():
            content = storage.read(f"{paths.stage(key)}/{name}")
            if hashlib.sha256(content).hexdigest() != digest:
                return f"{name} is not what was stored"
            if name == paths.STATE and stage.weights_sha256 not in (None, weights_hash(content)):
                return f"{name} holds other weights than {paths.STAGE} says"
    except FileNotFoundError as error:
        return f"{str(error.filename).rpartition('/')[2]} is not there"
    except StageDamaged as error:
        return str(error).removeprefix(f"{storage.location}/{paths.stage(key)}/")
    except StorageError:
        return f"{paths.STAGE} names a file outside of the stage"
    return None


_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def weights_hash(content: bytes) -> str | None:
    """Return the hash of the weights in a stored state as `State.weights_sha256` does, without torch; None if it is no
    such file.
    """
    try:
        groups = [(*path.split("/", 1), tensor) for path, tensor in deserialize(content)]  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError):
        return None
    order = ("params", "buffers", "latents")
    found = sorted((group for group in groups if group[0] in order), key=lambda group: order.index(group[0]))
    digest = hashlib.sha256()
    for name, tensor in sorted({name: tensor for _, name, tensor in found}.items()):
        dtype = _DTYPES.get(tensor["dtype"], tensor["dtype"])
        digest.update(f"{name}:torch.{dtype}:{tuple(tensor['shape'])}".encode())
        digest.update(tensor["data"])
    return digest.hexdigest()


def _point(storage: Storage, key: str) -> str | None:
    content = storage.read(paths.point(key))
    try:
        point = Point.model_validate_json(content)
    except ValidationError:
        return f"{paths.POINT} cannot be read"
    if point.key != key:
        return f"{paths.POINT} is that of another measurement"
    reason = contradiction(point) or checksum_fault(content, paths.point(key))
    return f"{paths.POINT}: {reason}" if reason else None


def _confirmations(storage: Storage) -> Iterator[Fault]:
    for damaged in confirmations.read(storage).damaged:
        message = f"{damaged.reason}; it does not count, and the next `robustsearch confirm` measures it again"
        yield Fault("confirmation", damaged.path, message)


def _readable(storage: Storage, path: str) -> bool:
    try:
        deserialize(storage.read(path))  # type: ignore[no-untyped-call]
    except SafetensorError:
        return False
    return True


def _lease(storage: Storage) -> Iterator[Fault]:
    if not storage.exists(paths.DRIVER):
        return
    who = lease.holder(storage, paths.DRIVER)
    message = f"the lease of {who}, which no longer runs" if who else "a lease that cannot be read"
    yield Fault("lease", paths.DRIVER, f"{message}; the next launch takes over")


def leftovers(storage: Storage) -> Iterator[Fault]:
    """Yield what a killed process left: files that were never renamed, probes, permits."""
    folders = ["", paths.EXPORTS]
    for parent in (paths.TRIALS, paths.STAGES):
        folders += [f"{parent}/{name}" for name in storage.names(parent)]
    folders += confirmations.folders(storage)
    for folder in folders:
        for name in () if storage.is_link(folder) else storage.names(folder):
            permit = name.startswith(f"{paths.DRIVER}.") and name.endswith(".taken")
            if name.endswith(paths.TEMPORARY) or (folder == "" and (permit or name.startswith(paths.PROBE))):
                path = f"{folder}/{name}" if folder else name
                yield Fault("leftover", path, "a temporary file of a process that was killed")
            elif folder == "" and name == paths.LIVE and live.driver_state(storage).live is None:
                yield Fault("leftover", name, "the state of a launch that was killed")
            elif name == paths.WORKER_REPORT and storage.exists(f"{folder}/{paths.OUTCOME}"):
                yield Fault("leftover", f"{folder}/{name}", "a report on a worker of a trial that has ended")
