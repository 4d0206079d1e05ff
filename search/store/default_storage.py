"""The default storage, and how a command names a study in a storage."""

from __future__ import annotations

import os
import shlex

from trainables.store.storage import Storage

DEFAULT_STORAGE = "runs"
STORAGE_VARIABLE = "ROBUSTSEARCH_STORAGE"


def arguments(study: Storage | str) -> str:
    """Return how a command names a study, stored in a storage or at its location.

    It is the name, and `--storage` where that is not the default one.
    """
    location = study if isinstance(study, str) else study.location
    root, _, name = location.rstrip("/").rpartition("/")
    default = Storage(os.environ.get(STORAGE_VARIABLE) or DEFAULT_STORAGE).location
    return shlex.join([name] if root == default else [name, "--storage", root or "/"])
