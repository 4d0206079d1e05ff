"""Reports of supervisors: why a worker process died or was ended, as a `Failure` in a file of the storage."""

from __future__ import annotations

import time

from pydantic import ValidationError

from trainables.store.records import Failure
from trainables.store.storage import Storage

POLL_SECONDS, REMOTE_POLL_SECONDS = 0.05, 0.5
"""The pause between two looks for a report, on a file system and on an object store."""


def take(storage: Storage, path: str, wait: float = 0.0) -> Failure | None:
    """Return the report at `path` and delete it, waiting up to `wait` seconds for it.

    Returns None where there is none, or where it cannot be read.
    """
    until = time.monotonic() + wait
    while True:
        try:
            content = storage.read(path)
        except FileNotFoundError:
            if time.monotonic() >= until:
                return None
            time.sleep(POLL_SECONDS if storage.local is not None else REMOTE_POLL_SECONDS)
            continue
        storage.delete(path)
        try:
            return Failure.model_validate_json(content)
        except ValidationError:
            return None
