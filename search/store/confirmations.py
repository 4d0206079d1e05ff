"""The results of `robustsearch confirm` on disk: below `confirm/`, one file per network and attack, written once.

    confirm/<weights_sha256>/<examples>/<attack>.json   one result; `all`, or `first-500`, of the test split
    confirm/seed-<n>/                                    a study: the front retrained with another seed

Results that cannot be read are listed, and never count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import ValidationError

from search.store.study_yaml import first_error
from trainables.store import paths
from trainables.store.checksum import checksum_fault
from trainables.store.confirmations import Confirmation
from trainables.store.records import SCHEMA
from trainables.store.storage import Storage

_WEIGHTS = re.compile("[0-9a-f]{64}")
_SEED = re.compile("seed-(0|[1-9][0-9]{0,18})")


@dataclass(frozen=True)
class DamagedConfirmation:
    """A result that cannot be read: its file in the study's directory, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class Confirmations:
    """All results of a study: those that can be read, in order of their paths, and the others."""

    found: tuple[Confirmation, ...]
    damaged: tuple[DamagedConfirmation, ...]


def read(storage: Storage) -> Confirmations:
    """Read the results in a study's directory.

    Raises:
        StorageError: the storage cannot be read.
    """
    found: list[Confirmation] = []
    damaged: list[DamagedConfirmation] = []
    for path in result_paths(storage):
        result = read_one(storage, path)
        if isinstance(result, Confirmation):
            found.append(result)
        elif result is not None:
            damaged.append(result)
    return Confirmations(tuple(found), tuple(damaged))


def result_paths(storage: Storage) -> list[str]:
    """Return the files of all results."""
    weights = [name for name in storage.names(paths.CONFIRM) if _WEIGHTS.fullmatch(name)]
    folders = [f"{paths.CONFIRM}/{name}" for name in weights]
    sets = [f"{folder}/{name}" for folder in folders for name in storage.names(folder)]
    return [f"{each}/{name}" for each in sets for name in storage.names(each) if name.endswith(".json")]


def read_one(storage: Storage, path: str) -> Confirmation | DamagedConfirmation | None:
    """Return a result, what is wrong with its file, or None where there is no such file."""
    try:
        content = storage.read(path)
    except FileNotFoundError:
        return None
    try:
        result = Confirmation.model_validate_json(content)
    except ValidationError as error:
        return DamagedConfirmation(path, first_error(error))
    if result.schema_number != SCHEMA:
        return DamagedConfirmation(path, f"schema {str(result.schema_number)[:20]} is unknown to this version")
    if reason := checksum_fault(content, path, required=True):
        return DamagedConfirmation(path, reason)
    return DamagedConfirmation(path, f"it belongs to {result.place()}") if result.place() != path else result


def seed_studies(storage: Storage) -> list[int]:
    """Return the seeds with which the front was retrained, each a study of its own."""
    names = (_SEED.fullmatch(name) for name in storage.names(paths.CONFIRM))
    return sorted(int(name[1]) for name in names if name)


def seed_name(seed: int) -> str:
    """Return the name of the study that retrains the front with a seed, in `confirm/`."""
    return f"seed-{seed}"
