"""What a launch is about to do, checked as far as that is possible without a cluster."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from search.cluster.base import Cluster
from search.cluster.carriers.base import Remote
from search.cluster.spec import resolve
from search.files.diagnostics import shown
from search.launch import warm_start
from search.launch.code import code_paths
from search.launch.prepare import resized, resumed, with_sizes
from search.store import catalogue
from search.store.catalogue import DEFAULT_STORAGE, STORAGE_VARIABLE
from search.store.records import Records
from search.store.study_yaml import study_digest
from search.study import file as study_file
from search.study.space_check import corner_trials
from search.study.spec import StudySpec
from trainables.core.errors import DataError, SpecError, StorageError
from trainables.data.base import Data, trained_on, wrong_sizes
from trainables.data.cache import already_described, described
from trainables.data.files import MissingData
from trainables.store.storage import Storage
from trainables.store.storage_options import OPTIONS_VARIABLE


@dataclass(frozen=True)
class Plan:
    """A launch that is ready to start; `search.launch(plan)` runs it.

    `storage` is the study's own directory, `records` are those of a stored study, opened once, None where the study is
    new. `effects` say what the changes of a stored study mean, a line each. `again` plans anew from the same arguments.
    `notes` say what overrides change besides what they name, and where the number of trials is not what was asked for.
    """

    spec: StudySpec
    cluster: Cluster
    storage: Storage
    records: Records | None
    effects: tuple[str, ...]
    again: Callable[[], Plan]
    notes: tuple[str, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether the study is stored already."""
        return self.records is not None

    def ended(self) -> int:
        """Count the trials that have ended."""
        trials = self.records.trials() if self.records else []
        return sum(outcome is not None for _, outcome in trials)

    def outdated(self) -> bool:
        """Return whether `study.yaml` is not the one that was planned with; its bytes are compared."""
        return study_digest(self.storage) != (self.records.digest if self.records else None)


def plan(
    study: str | Path | Mapping[str, Any],
    cluster: Cluster | Mapping[str, Any] | str | Path | None = None,
    storage: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    trials: str | int | None = None,
    dry: bool = False,
    allow_change: bool = False,
) -> Plan:
    """Read study and cluster once, compare with what is stored, and refuse what cannot run; `dry` downloads nothing.

    Raises:
        RobustsearchError: what prevents the launch.
    """
    resolved = resolve(cluster)
    named = storage or os.environ.get(STORAGE_VARIABLE) or resolved.storage
    if isinstance(resolved, Remote):
        resolved.check_storage(str(named) if named else None)
    root = Storage(str(named or DEFAULT_STORAGE), resolved.storage_options)
    notes = reached(root)
    spec, records = find(study, overrides, root, notes)
    if name is not None and name != spec.name:
        spec, records = spec.model_copy(update={"name": catalogue.check_name(name)}), None
    own = root.child(spec.name)
    if records is None and Records.exist(own):
        records = Records.open(own, plugins=True)
    spec = resized(spec, trials, records, notes)
    if resolved.this_machine:
        spec = spec.model_copy(update={"data": _located(spec.data, dry)})
        _check_images(spec)
    effects: tuple[str, ...] = ()
    if records is None:
        spec = with_sizes(spec, shrink=True)
        warm_start.check(spec, root)
    else:
        spec, effects = resumed(spec, records, allow_change=allow_change)
    code_paths(resolved, spec.plugins)
    check_writable(own)
    again = partial(plan, study, cluster, storage, overrides, name=name, trials=trials, allow_change=allow_change)
    return Plan(spec, resolved, own, records, effects, again, tuple(notes))


def reached(storage: Storage) -> list[str]:
    """Return how other commands reach an object store, if that is not what the environment says already."""
    if storage.options is None or Storage(storage.location).options == storage.options:
        return []
    return [f"other commands reach this storage with {OPTIONS_VARIABLE}={shlex.quote(storage.options.words())}"]


def find(
    study: str | Path | Mapping[str, Any], overrides: Sequence[str], root: Storage, notes: list[str] | None = None
) -> tuple[StudySpec, Records | None]:
    """Return what is launched, and the opened records where that is a stored study.

    A text names a built-in study or a file, else a stored study; a mapping is what a study file would hold.

    Raises:
        SpecError: there is none, or it is wrong.
    """
    if not isinstance(study, (Mapping, str, Path)):
        allowed = "give a study file, the name of a study, or what a study file would hold as a mapping"
        raise SpecError(f"the study: {shown(study)} is of type {type(study).__name__}; {allowed}")
    if isinstance(study, Mapping):
        return study_file.from_dict(study, overrides=overrides, notes=notes), None
    name = str(study)
    if name in study_file.builtin_names() or os.path.exists(name) or not catalogue.has_study(root, name):
        return study_file.load(name, overrides, notes), None
    records = Records.open(root.child(name), plugins=True)
    if not overrides:
        return records.spec, records
    return study_file.from_dict(records.spec.resolved(), f"{name} as stored", overrides, notes), records


def _located(data: Data, dry: bool) -> Data:
    """Return the data with an absolute `root`, as worker processes have another current directory."""
    if not (dry and data.download):
        return data.located()
    try:
        return data.model_copy(update={"download": False}).located().model_copy(update={"download": True})
    except DataError:
        return data


def _check_images(spec: StudySpec) -> None:
    """Refuse a validation split, a limit or a selection beyond the images that there are, and what never comes due.

    Images are counted without decoding any, unless classes are selected: then once, and what is found is cached.

    Raises:
        SpecError: names the field.
        DataError: a file is damaged.
    """
    data = spec.data.model_copy(update={"download": False})
    try:
        known = described(data) if data.select else already_described(data)
        images = known.fingerprint.images if known else data.count_training()
    except MissingData:  # A dry run downloads nothing.
        return
    if images is not None and (wrong := wrong_sizes(spec.data, images)):
        raise SpecError(f"data.{wrong[1]}")
    unknown = spec.data.training_images is None or spec.data.select
    if images is not None and unknown and (left := trained_on(spec.data, images)):
        for trial in corner_trials(spec.space, spec.trial):
            trial.check_lengths(left)


def check_writable(storage: Storage) -> None:
    """Refuse a local storage in which nothing can be created, found out with a file that has no name.

    Raises:
        StorageError: a file of that name exists, or permissions are missing.
    """
    if storage.local is None:
        return
    nearest = next(folder for folder in (storage.local, *storage.local.parents) if folder.exists())
    if not nearest.is_dir():
        raise StorageError(f"{storage.location}: {nearest} is a file, not a directory; choose another --storage")
    try:
        # Permissions do not tell all: file systems may be read-only, and some, such as /proc, have no files of ours.
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except PermissionError:
        raise StorageError(
            f"{storage.location}: no permission to write to {nearest}; choose another --storage"
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(
            f"{storage.location}: nothing can be written to {nearest} ({reason}); choose another --storage"
        ) from None
