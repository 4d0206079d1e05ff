"""What killed processes left in a storage and nobody reads any more: it is deleted by the next launch, or by gc."""

from __future__ import annotations

import time
from contextlib import suppress

from search.store import check
from trainables.core.errors import StorageError
from trainables.store import lease, paths
from trainables.store.lease import STALE_AFTER, LeaseHeld
from trainables.store.storage import Storage


def sweep(storage: Storage) -> None:
    """Delete temporary files of the study and leases of dead workers; the caller holds the study's lease.

    An object store has no temporary files. What another command may be writing now stays for a minute.
    """
    if storage.local is None:
        return
    for fault in check.leftovers(storage):
        with suppress(FileNotFoundError, StorageError):
            ours = fault.path.startswith((paths.TRIALS, paths.STAGES))
            if ours or storage.age(fault.path, time.time()) > STALE_AFTER:
                storage.delete_directory(fault.path)
    root = storage.parent()
    if root.is_link(paths.STAGE_LEASES):
        return
    for name in root.names(paths.STAGE_LEASES):
        path = f"{paths.STAGE_LEASES}/{name}"
        if name.endswith(".json") and lease.living_holder(root, path) is None:
            # Whoever takes the lease over meanwhile keeps it.
            with suppress(LeaseHeld, StorageError):
                lease.acquire(root, path).release()
        elif name.endswith(paths.TEMPORARY):
            with suppress(FileNotFoundError, StorageError):
                if root.age(path, time.time()) > STALE_AFTER:
                    root.delete(path)
