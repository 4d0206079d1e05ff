"""What of a launch other users of this machine could change: code, temporary files, decoded images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import search
import trainables
from search.cluster import folder
from search.cluster.base import ClusterError
from search.files.findings import Finding
from trainables.core import ownership
from trainables.data import cache


def examine() -> Iterator[Finding]:
    """Check the modes and owners of what a launch runs, reads and writes here."""
    yield from _temporary()
    found = False
    for subject, path, danger in _places():
        if problem := ownership.exposed(path):
            found = True
            yield Finding("warn", subject, f"{problem}: {danger}")
    if not found:
        yield Finding("ok", "other users", "cannot change the code that is run here, nor the decoded images")


def _places() -> Iterator[tuple[str, Path, str]]:
    for package in (search, trainables):
        name = package.__name__
        yield f"code of {name}", Path(str(package.__file__)).parent, "others could put code there that a launch runs"
    yield "current folder", Path.cwd(), "plug-ins are imported from here, and others could put code into them"
    if directory := cache.directory():
        yield "decoded images", directory, "others could change the images that trials train on"


def _temporary() -> Iterator[Finding]:
    try:
        root = folder.temporary()
    except ClusterError as error:
        yield Finding("fail", "temporary files", str(error))
        return
    left = folder.dead(root)
    rest = f"; {len(left)} left by launches that were killed, which the next launch removes" if left else ""
    yield Finding("ok", "temporary files", f"{root}, in a folder of mode 700 for each launch{rest}")
