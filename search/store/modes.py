"""Who besides this user can change the records and stages of a study."""

from __future__ import annotations

import os

from trainables.core import ownership
from trainables.store.storage import Storage


def changeable(storage: Storage) -> list[str]:
    """Return, as words, each file and folder of a study that other users can write to; links are not followed.

    Files get the modes of the user's umask: none is writable by others, unless a group shares the study on purpose.
    """
    if storage.local is None:
        return []
    found = [ownership.writable(storage.local)]
    for folder, folders, files in os.walk(storage.local):
        paths = (os.path.join(folder, name) for name in sorted((*folders, *files)))
        found += [ownership.writable(path) for path in paths if not os.path.islink(path)]
    return [problem for problem in found if problem is not None]
