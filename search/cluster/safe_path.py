"""What the processes of a launch may import: installed packages and what is sent, not the current directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_SAFE, _PATH = "PYTHONSAFEPATH", "PYTHONPATH"


@contextmanager
def safe_path() -> Iterator[None]:
    """Start no process within this block that imports from its current directory.

    Python puts it first on the path of `python -c`, as Ray's fork server is started, and reads an empty entry of
    PYTHONPATH as that directory. Afterwards the environment is as before.
    """
    before = {name: os.environ.get(name) for name in (_SAFE, _PATH)}
    os.environ[_SAFE] = "1"
    path = _elsewhere(os.environ.pop(_PATH, ""))
    if path:
        os.environ[_PATH] = path
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _elsewhere(path: str) -> str:
    """Return the entries of a search path, made absolute, but for those that stand for the current directory."""
    entries = [entry for entry in path.split(os.pathsep) if os.path.normpath(entry) != os.curdir]
    return os.pathsep.join(map(os.path.abspath, entries))
