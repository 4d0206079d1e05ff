"""The default storage, and how a command names a study in a storage."""

from __future__ import annotations

import os
import shlex

from trainables.store.storage import Storage

DEFAULT_STORAGE = "runs"
STORAGE_VARIABLE = "ROBUSTSEARCH_STORAGE"


def arguments(study: Storage) -> str:
    """Return how a command names a stored study: its name, and `--storage` where that is not the default one."""
    root, _, name = study.location.rstrip("/").rpartition("/")
    default = Storage(os.environ.get(STORAGE_VARIABLE) or DEFAULT_STORAGE).location
    return shlex.join([name] if root == default else [name, "--storage", root or "/"])
