"""What tells the nodes of a cluster apart, asked on each before a few of them are probed; no torch is imported."""

from __future__ import annotations

import json
import uuid
from typing import Any

from trainables.core.errors import StorageError
from trainables.core.versions import versions
from trainables.store import paths
from trainables.store.storage import Address, Storage


def survey(address: Address) -> dict[str, Any]:
    """Return, as plain data, this node's `versions`, and how it sees the storage of the study.

    `token` is that of the lease which it reads there, None where there is none; `mark` is the name of an empty file
    that it has written beside it, for the launch to look for and to delete. `error` says why it could not.
    """
    found: dict[str, Any] = {"versions": versions(), "token": None, "mark": None}
    try:
        storage = Storage(address)
        if storage.exists(paths.DRIVER):
            found["token"] = json.loads(storage.read(paths.DRIVER)).get("token")
            mark = f"{paths.PROBE}{uuid.uuid4().hex}"
            storage.write(mark, b"")
            found["mark"] = mark
    except (StorageError, OSError, ValueError) as error:
        found["error"] = str(error)
    return found
