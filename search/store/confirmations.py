"""The results of `robustsearch confirm` on disk: below `confirm/`, one file per network and attack, written once.

    confirm/<weights_sha256>/<examples>/<attack>.json   one result; `all`, or `first-500`, of the test split
    confirm/<weights_sha256>/<examples>/<attack>.json.part   the first part of one that is measured
    confirm/seed-<n>/                                    a study: the front retrained with another seed

Results that cannot be read are listed, and never count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trainables.store import paths
from trainables.store.confirmations import Confirmation
from trainables.store.confirmations import read as read_result
from trainables.store.storage import Storage

_WEIGHTS = re.compile("[0-9a-f]{64}")
SEED = "seed-"
"""How the names of the studies begin that retrain the front, in `confirm/`."""


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
        result = read_result(storage, path)
        if isinstance(result, Confirmation):
            found.append(result)
        elif result is not None:
            damaged.append(DamagedConfirmation(path, result))
    return Confirmations(tuple(found), tuple(damaged))


def result_paths(storage: Storage) -> list[str]:
    """Return the files of all results."""
    return [f"{each}/{name}" for each in folders(storage) for name in storage.names(each) if name.endswith(".json")]


def folders(storage: Storage) -> list[str]:
    """Return the directories of results: one per network and set of examples."""
    weights = [name for name in storage.names(paths.CONFIRM) if _WEIGHTS.fullmatch(name)]
    return [f"{paths.CONFIRM}/{name}/{each}" for name in weights for each in storage.names(f"{paths.CONFIRM}/{name}")]


def seed_name(seed: int) -> str:
    """Return the name of the study that retrains the front with a seed, in `confirm/`."""
    return f"{SEED}{seed}"
