"""Check what a launch on this machine needs, and the studies of a storage for damage."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterator

from search.cluster import spec
from search.cluster.base import Cluster
from search.cluster.carriers.base import Remote
from search.files.findings import Finding, Level
from search.files.messages import counted
from search.launch import exposure, plan
from search.store import catalogue, check, driver_lock
from search.store.catalogue import DEFAULT_STORAGE
from search.store.modes import changeable
from search.store.records import Records
from search.study import file as study_file
from search.study.spec import StudySpec
from trainables.core import plugins
from trainables.core.errors import DataError, RobustsearchError
from trainables.core.versions import versions
from trainables.data.cache import already_described
from trainables.store.storage import Storage

NO_GPU = "install a build of torch for its driver, or ask for less with `gpus_per_trial`"
IMPORTED = ("torch", "torchvision", "ray", "optuna")
"""The packages that are imported: an installed one may still fail to import."""
LITTLE_SPACE = 1024**3
"""Free bytes below which a storage counts as nearly full."""


def examine(cluster_file: str | None, storage: str | None) -> list[Finding]:
    """Check versions, devices, data sets, the storage with its studies, and the cluster."""
    try:
        cluster: Cluster | None = spec.load(cluster_file)
        kind = cluster.kind if cluster else ""
        file = [Finding("ok", "cluster file", f"{cluster_file or 'none given: this machine'}, kind {kind}")]
    except RobustsearchError as error:
        cluster, file = None, [Finding("fail", "cluster file", str(error))]
    named = storage or (cluster.storage if cluster else None)
    found = [*_packages(), *_devices(cluster), *file]
    if cluster is not None:
        found += cluster.examine()
    return [*found, *exposure.examine(), *_data_sets(), *_storage(named, cluster)]


def _packages() -> Iterator[Finding]:
    """Import what a launch imports."""
    known = versions()
    yield Finding("ok", "robustsearch", f"{known['robustsearch']} on Python {known['python']}")
    for name in IMPORTED:
        try:
            importlib.import_module(name)
        # A package built for another machine fails with whatever its loader raises.
        except Exception as error:
            yield Finding("fail", name, f"cannot be imported: {type(error).__name__}: {error}")
        else:
            yield Finding("ok", name, known.get(name, "version unknown"))


def _devices(cluster: Cluster | None) -> Iterator[Finding]:
    if "torch" not in sys.modules:
        return
    import torch

    from trainables.core.precision import resolve_precision

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    precision = resolve_precision("auto", torch.device("cpu"))
    yield Finding("ok", "cpu", f"{cores} cores; training in {precision}")
    gpus = torch.cuda.device_count()
    for index in range(gpus):
        memory = torch.cuda.get_device_properties(index).total_memory / 1024**3
        precision = resolve_precision("auto", torch.device("cuda", index))
        yield Finding(
            "ok", f"gpu {index}", f"{torch.cuda.get_device_name(index)}, {memory:.0f} GiB; training in {precision}"
        )
    wanted = cluster.gpus_per_trial if cluster and cluster.this_machine else 0
    if wanted > gpus:
        yield Finding("fail", "gpu", f"a trial asks for {wanted:g} GPU, torch sees {gpus} on this machine; {NO_GPU}")
    elif not gpus:
        yield Finding("ok", "gpu", "none that torch can use")


def _data_sets() -> Iterator[Finding]:
    """Check the files of the built-in studies; only those of the default study must exist."""
    kinds: dict[str, list[str]] = {}
    specs = {}
    for name in study_file.builtin_names():
        data = study_file.load(name).data
        kinds.setdefault(data.kind, []).append(name)
        specs[data.kind] = data.model_copy(update={"download": False})
    for kind, names in kinds.items():
        needed = f"for {', '.join(names)}"
        try:
            files = specs[kind].training_files()
        except DataError as error:
            yield Finding("warn", kind, f"not found, {needed}: {str(error).partition(';')[0]}")
            continue
        if files:
            yield Finding("ok", kind, f"{files[0].parent}, {needed}")
            known = already_described(specs[kind])
            yield from (Finding("warn", kind, note) for note in (known.notes if known else ()))
        else:
            yield Finding("fail", kind, f"not found, {needed}")


def _storage(named: str | None, cluster: Cluster | None) -> Iterator[Finding]:
    try:
        if isinstance(cluster, Remote):
            cluster.check_storage(named)
        storage = Storage(named or DEFAULT_STORAGE, cluster.storage_options if cluster else None)
        plan.check_writable(storage)
        names = catalogue.names(storage)
    except RobustsearchError as error:
        yield Finding("fail", "storage", str(error))
        return
    held = f"{storage.location}, {len(names)} {'study' if len(names) == 1 else 'studies'}"
    if storage.local is None:
        yield Finding("ok", "storage", held)
    else:
        there = next(folder for folder in (storage.local, *storage.local.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        level: Level = "warn" if free < LITTLE_SPACE else "ok"
        yield Finding(level, "storage", f"{held}, {free / 1024**3:.1f} GiB free")
    for name in names:
        yield from _study(storage.child(name), name)


def examine_study(name: str, storage: str | None) -> list[Finding]:
    """Read all files of a study, weights too, and return what is damaged, what was left behind, and what to do.

    Raises:
        RobustsearchError: there is no such study, or the storage cannot be read.
    """
    own = catalogue.study_storage(Storage(storage or DEFAULT_STORAGE), name)
    study = check.opened(own)
    faults = check.faults(own, study=study)
    found = [Finding("warn" if fault.harmless else "fail", fault.path, fault.message) for fault in faults]
    if study[0] is not None:
        found += _plugins(study[0].spec, name)
        found += [Finding("ok", name, f"its data: {note}") for note in study[0].fingerprint.data_notes]
    if open_to_others := changeable(own):
        more = len(open_to_others) - 1
        others = f", and so can {counted(more, 'other path')}" if more else ""
        found.append(Finding("warn", name, f"{open_to_others[0]}{others}: who can write there can forge results"))
    driver = driver_lock.driver(own)
    if driver is not None:
        found.append(Finding("ok", name, f"driven by {driver}; leftovers are listed once it has ended"))
    repair = f"`robustsearch repair {catalogue.arguments(own)}`"
    if any(finding.level == "fail" for finding in found):
        found.append(Finding("fail", name, f"damaged; {repair} repairs it and keeps copies"))
    elif faults and driver is None:
        found.append(Finding("ok", name, f"intact; {repair} removes the leftovers"))
    else:
        found.append(Finding("ok", name, "intact"))
    return found


def _plugins(spec: StudySpec, name: str) -> Iterator[Finding]:
    """Look for the plug-ins of a study, without importing them: reading its records needs none."""
    here = plugins.current_folder()
    missing = [plugin for plugin in dict.fromkeys(spec.plugins) if not plugins.find(plugin, here)]
    if missing:
        yield Finding(
            "warn",
            name,
            f"its plug-ins are neither installed here nor in the current directory ({', '.join(missing)}): it cannot "
            "be launched from here, and what only they know is not checked; to read it needs no plug-in",
        )


def _study(storage: Storage, name: str) -> Iterator[Finding]:
    """Yield what is damaged in a study, and which process drives it."""
    try:
        records = Records.open(storage)
        damaged = records.damaged()
    except RobustsearchError as error:
        yield Finding("warn", name, f"cannot be opened: {error}")
        return
    yield from _plugins(records.spec, name)
    for record in damaged:
        yield Finding(
            "warn",
            name,
            f"damaged: {record.path}: {record.reason}; the trial counts as issued only; "
            f"`robustsearch repair {catalogue.arguments(storage)}` repairs it",
        )
    driver = driver_lock.driver(storage)
    if driver is not None:
        yield Finding("ok", name, f"driven by {driver}")
