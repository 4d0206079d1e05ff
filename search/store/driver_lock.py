"""One driver per study: the lease `driver.json`, and the request to stop."""

from __future__ import annotations

import json
import os
import socket

from trainables.store import lease, paths
from trainables.store.lease import Holder, Lease, LeaseHeld
from trainables.store.storage import Storage


def driver(storage: Storage) -> Holder | None:
    """Return the process that drives the study, None where there is none."""
    return lease.living_holder(storage, paths.DRIVER)


def acquire(storage: Storage) -> Lease:
    """Become the one driver of the study in `storage`; what earlier drivers left is deleted.

    The lease's `requested` says whether the driver was asked to stop.

    Raises:
        LeaseHeld: another process drives it; the message names its host and process.
        StorageError: the storage cannot be written.
    """
    try:
        storage.check_exclusive()
        held = lease.acquire(storage, paths.DRIVER, paths.STOP)
    except LeaseHeld as busy:
        raise LeaseHeld(_busy(storage, busy.by), busy.by) from None
    storage.delete(paths.STOP)
    storage.delete(paths.LIVE)
    return held


def refuse_second(storage: Storage) -> None:
    """Refuse a study that is driven, without becoming its driver.

    Raises:
        LeaseHeld: names the host and process that drives it.
    """
    if (who := driver(storage)) is not None:
        raise LeaseHeld(_busy(storage, who), who)


def _busy(storage: Storage, who: Holder | None) -> str:
    if who is None:
        return f"another launch is taking over the study in {storage.location}; try again in a minute"
    return (
        f"the study in {storage.location} is driven by {who}; "
        f"stop that launch first (if it no longer runs, delete {storage.location}/{paths.DRIVER})"
    )


def request_stop(storage: Storage) -> None:
    """Ask the driver to stop at the next opportunity; the study stays resumable."""
    storage.write(paths.STOP, (json.dumps({"host": socket.gethostname(), "pid": os.getpid()}) + "\n").encode())


def stop_requested(storage: Storage) -> bool:
    """Return whether the driver was asked to stop; that one asks its lease, which costs an object store less."""
    return storage.exists(paths.STOP)
