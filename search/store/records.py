"""The records of a study, which are the truth on disk: reading and writing them.

Trial numbers are dense and unique, a trial is recorded before it starts, its outcome is written
once, and no record is overwritten. Records that cannot be read are listed, and never count as
results. Only YAML and JSON are read.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from search.store import warm_start_points
from search.store.consistency import Expected, inconsistency
from search.store.default_storage import arguments
from search.store.study_yaml import Changed, Fingerprint, parse_study, sha256, study_bytes
from search.store.warm_start_points import NOTHING, WarmStartPoints
from search.study.spec import StudySpec
from trainables.core.errors import StorageError
from trainables.core.spec import first_error
from trainables.store import paths, worker_reports
from trainables.store.checksum import checksum_fault
from trainables.store.records import SCHEMA, Failure, Outcome, TrialRecord
from trainables.store.storage import Storage

R = TypeVar("R", TrialRecord, Outcome)
NOT_FETCHED: Mapping[str, bytes | None] = MappingProxyType({})
FETCHED_AT_ONCE = 500
"""The records of how many trials are read together from an object store, and are in memory as text meanwhile."""


@dataclass(frozen=True)
class Damaged:
    """A record that cannot be read: the trial's number, the file in the study's directory, and the reason.

    `foreign` records were written by another version of robustsearch; they are intact.
    """

    number: int
    path: str
    reason: str
    foreign: bool = False


class Records:
    """The records below one study's directory.

    Trials and outcomes never change once written, so each is read once per object; listing again
    costs a look for new ones only.
    """

    def __init__(self, storage: Storage, spec: StudySpec, fingerprint: Fingerprint, digest: str = "") -> None:
        """Wrap what `create` or `open` read; call those. `digest` is that of the bytes of `study.yaml`."""
        self.storage = storage
        self.spec = spec
        self.fingerprint = fingerprint
        self.digest = digest
        self._trials: dict[int, TrialRecord] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._damaged: dict[int, Damaged] = {}
        self._issued: TrialRecord | None = None
        self._expected: tuple[StudySpec, Expected] | None = None

    @classmethod
    def create(
        cls, storage: Storage, spec: StudySpec, fingerprint: Fingerprint, transferred: WarmStartPoints = NOTHING
    ) -> Self:
        """Write `study.yaml`, and before it the points of other studies; the study must not exist.

        Raises:
            StorageError: there is a study already, or the storage refuses.
        """
        if storage.exists(paths.STUDY_COPY) and not storage.exists(paths.STUDY):
            raise _lost(storage)
        if spec.warm_start and not storage.exists(paths.STUDY):
            warm_start_points.write(storage, transferred)
        content = study_bytes(spec, fingerprint)
        if not storage.claim(paths.STUDY, content):
            raise StorageError(f"{storage.location} holds a study already")
        storage.write(paths.STUDY_COPY, content)
        return cls(storage, spec, fingerprint, sha256(content))

    @classmethod
    def open(cls, storage: Storage, file: str = paths.STUDY, *, plugins: bool = False) -> Self:
        """Read `study.yaml`, or its copy; only a launch needs the study's `plugins`, and imports them.

        Raises:
            StorageError: there is no study, it is damaged, or another version of robustsearch wrote it.
            SpecError: a plug-in cannot be imported.
        """
        where = f"{storage.location}/{file}"
        try:
            content = storage.read(file)
        except (FileNotFoundError, NotADirectoryError):
            if file == paths.STUDY and storage.exists(paths.STUDY_COPY):
                raise _lost(storage) from None
            raise StorageError(f"{storage.location} holds no study: {file} is not there") from None
        spec, fingerprint = parse_study(content, where, arguments(storage), plugins=plugins)
        return cls(storage, spec, fingerprint, sha256(content))

    @staticmethod
    def exist(storage: Storage) -> bool:
        """Return whether the directory holds a study, which may be damaged."""
        return storage.exists(paths.STUDY) or storage.exists(paths.STUDY_COPY)

    def warm_start_points(self) -> WarmStartPoints:
        """Return the points of other studies that this one started from.

        Raises:
            StorageError: it cannot be read.
        """
        return warm_start_points.read(self.storage) if self.spec.warm_start else NOTHING

    def replace_spec(self, spec: StudySpec, effects: tuple[str, ...] = ()) -> None:
        """Write a changed study, such as one with a larger budget; the caller has checked that it may change.

        `effects` say what a change means that had to be allowed.
        """
        if effects:
            changed = (*self.fingerprint.changed, Changed(trials=self.next_number(), effects=effects))
            self.fingerprint = self.fingerprint.model_copy(update={"changed": changed})
        content = study_bytes(spec, self.fingerprint)
        self.storage.write(paths.STUDY, content)
        self.storage.write(paths.STUDY_COPY, content)
        self.spec, self.digest = spec, sha256(content)

    def issue(self, record: TrialRecord) -> None:
        """Record a trial before its worker starts.

        Raises:
            StorageError: the number was issued already, the study was deleted, or the storage refuses.
        """
        number = record.number
        if self.storage.local is not None and not self.exist(self.storage):
            raise StorageError(f"{self.storage.location} no longer holds a study: {paths.STUDY} is missing")
        taken = self._trials.keys() | self._damaged.keys()
        assert number == 0 or number - 1 in taken or self.storage.exists(paths.trial_record(number - 1)), (
            f"trial {number} would leave a gap"
        )
        self._check_replaced()
        if not self.storage.claim(paths.trial_record(number), record.json_bytes()):
            raise StorageError(f"trial {number} of {self.storage.location} has been issued already")
        self._issued = record
        self._trials[number] = record

    def _check_replaced(self) -> None:
        """Refuse a directory that took the study's place: the trial that was issued last is not in it.

        Raises:
            StorageError: what is there is another study, or an empty directory.
        """
        if (last := self._issued) is None or self.storage.local is None:
            return  # Nothing is mounted in the place of a bucket; that objects were deleted is seen by the workers.
        try:
            same = self.storage.read(paths.trial_record(last.number)) == last.json_bytes()
        except FileNotFoundError:
            same = False
        if not same:
            raise StorageError(
                f"{self.storage.location} is no longer the study of this launch: it was moved, deleted or replaced "
                f"(trial {last.number} is not the one that was issued)"
            )

    def write_outcome(self, outcome: Outcome) -> bool:
        """Record a trial's end; return False, and change nothing, where one is recorded already."""
        self._check_replaced()
        known = outcome.number in self._trials or self.storage.exists(paths.trial_record(outcome.number))
        assert known, f"trial {outcome.number} was never issued"
        if reason := inconsistency(outcome, outcome.number) or self.contradicts(outcome):
            raise AssertionError(f"outcome of trial {outcome.number}: {reason}")
        if not self.storage.claim(paths.outcome(outcome.number), outcome.json_bytes()):
            return False
        self._outcomes[outcome.number] = outcome
        return True

    def take_worker_report(self, number: int, wait: float = 0.0) -> Failure | None:
        """Return and delete what the supervisor of a trial's worker left, waiting up to `wait` seconds for it."""
        return worker_reports.take(self.storage, paths.worker_report(number), wait)

    def outcome(self, number: int) -> Outcome | None:
        """Return how a trial ended; None while it has not, and where its record is damaged."""
        if number not in self._outcomes:
            self._read(number)
        return self._outcomes.get(number)

    def trials(self) -> list[tuple[TrialRecord, Outcome | None]]:
        """Return every readable trial with its outcome, in order of number."""
        self._refresh()
        readable = sorted(self._trials.keys() - self._damaged.keys())
        return [(self._trials[number], self._outcomes.get(number)) for number in readable]

    def unfinished(self) -> list[int]:
        """Return the numbers that were issued and have no outcome, damaged ones left out."""
        return [trial.number for trial, outcome in self.trials() if outcome is None]

    def unfinished_keys(self) -> set[str]:
        """Return the keys of the stages and points of trials without an outcome, which the next launch resumes."""
        return {key for trial, outcome in self.trials() if outcome is None for key in trial.keys}

    def issued(self) -> int:
        """Return how many trials were issued, those with damaged records included."""
        self._refresh()
        return len(self._trials.keys() | self._damaged.keys())

    def next_number(self) -> int:
        """Return the smallest number that was never issued."""
        self._refresh()
        taken = self._trials.keys() | self._damaged.keys()
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def damaged(self) -> list[Damaged]:
        """Return the records that cannot be read; their trials count as issued and as nothing else."""
        self._refresh()
        return [self._damaged[number] for number in sorted(self._damaged)]

    def set_aside(self, damaged: Damaged) -> str:
        """Rename a damaged record and return its new name; a trial whose outcome is renamed runs again."""
        kept = set_aside(self.storage, damaged.path)
        self._damaged.pop(damaged.number, None)
        return kept

    def _refresh(self) -> None:
        """Read what is new in the trials' directory.

        Raises:
            StorageError: known trials are missing, as when a disk is unmounted during a launch.
        """
        names = self.storage.names(paths.TRIALS)
        numbers = {int(name) for name in names if name.isascii() and name.isdecimal() and len(name) < 10}
        if gone := sorted(self._trials.keys() - numbers):
            count = f"{len(gone)} of {len(self._trials)} trials"
            raise StorageError(f"{count} are missing from {self.storage.location}, the first is {gone[0]}")
        self._damaged = {n: damaged for n, damaged in self._damaged.items() if n in numbers}
        missing = sorted(numbers - self._outcomes.keys())
        with _uncollected():
            for first in range(0, len(missing), FETCHED_AT_ONCE):
                some = missing[first : first + FETCHED_AT_ONCE]
                fetched = self._fetched(some) if self.storage.local is None else {}
                for number in some:
                    self._read(number, fetched)

    def _fetched(self, numbers: list[int]) -> dict[str, bytes | None]:
        """Read the files of trials from an object store, several at a time: each takes long to answer."""
        trials = [paths.trial_record(number) for number in numbers if number not in self._trials]
        wanted = [*trials, *map(paths.outcome, numbers)]
        return dict(zip(wanted, self.storage.read_all(wanted), strict=True))

    def _read(self, number: int, fetched: Mapping[str, bytes | None] = NOT_FETCHED) -> None:
        """Read the files of a trial that exist, unless they were `fetched`; a damaged one is read again each time."""
        self._damaged.pop(number, None)
        if number not in self._trials:
            self._load(number, paths.trial_record(number), TrialRecord, self._trials, fetched)
        if number in self._damaged:
            return
        self._load(number, paths.outcome(number), Outcome, self._outcomes, fetched)
        if number in self._outcomes and number not in self._trials:
            del self._outcomes[number]
            self._damaged[number] = Damaged(number, paths.outcome(number), f"{paths.TRIAL} is not there")
        elif number in self._outcomes and (reason := self.contradicts(self._outcomes[number])):
            del self._outcomes[number]
            self._damaged[number] = Damaged(number, paths.outcome(number), reason)

    def _expectations(self) -> Expected:
        if self._expected is None or self._expected[0] is not self.spec:
            self._expected = self.spec, Expected.of(self.spec)
        return self._expected[1]

    def contradicts(self, outcome: Outcome, trial: TrialRecord | None = None) -> str | None:
        """Return what in an outcome contradicts the record of its trial, by default the one that was read."""
        trial = trial or self._trials.get(outcome.number)
        return None if trial is None else self._expectations().outcome_fault(trial, outcome)

    def wrong(self, content: bytes, kind: type[R], number: int) -> tuple[R | None, str | None]:
        """Return the record of `trial.json` or `outcome.json`, None where it cannot be read, and what is wrong with it.

        An outcome is not compared with its trial here.
        """
        path = paths.trial_record(number) if kind is TrialRecord else paths.outcome(number)
        try:
            record = kind.model_validate_json(content)
        except ValidationError as error:
            return None, first_error(error)
        if record.schema_number != SCHEMA:
            return record, _unknown(record)
        reason = inconsistency(record, number)
        if reason is None and isinstance(record, TrialRecord):
            reason = self._expectations().trial_fault(record)
        return record, reason or checksum_fault(content, path, required=self.fingerprint.digests)

    def _load(
        self, number: int, path: str, kind: type[R], into: dict[int, R], fetched: Mapping[str, bytes | None]
    ) -> None:
        try:
            content = fetched[path] if path in fetched else self.storage.read(path)
        except FileNotFoundError:
            return
        if content is None:
            return
        record, reason = self.wrong(content, kind, number)
        if record is None or reason is not None:
            foreign = record is not None and record.schema_number != SCHEMA
            self._damaged[number] = Damaged(number, path, str(reason), foreign)
        else:
            into[number] = record


def _unknown(record: Any) -> str:
    return f"schema {str(record.schema_number)[:20]} is unknown to this version, which reads {SCHEMA}"


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pause the collection of cyclic garbage: records create none, and for thousands it takes half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def set_aside(storage: Storage, path: str) -> str:
    """Move a file of the records out of the way, under a name of its own beside it, and return that.

    Raises:
        StorageError: the storage refuses, or a thousand copies are there already.
    """
    content = storage.read(path)
    names = (f"{path}{paths.DAMAGED}{i}" for i in range(1_000))
    kept = next((name for name in names if storage.claim(name, content)), None)
    if kept is None:
        raise StorageError(f"too many damaged copies of {path} in {storage.location}")
    storage.delete(path)
    return kept


def _lost(storage: Storage) -> StorageError:
    return StorageError(
        f"{storage.location} has lost its {paths.STUDY}: `robustsearch repair {arguments(storage)}` restores it"
    )
