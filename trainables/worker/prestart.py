"""Make a new worker ready for trials: Ray imports this module in each before its first task.

It does so where a launch has started Ray itself, and names the launch's folder in `FOLDER`.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

FOLDER = "ROBUSTSEARCH_WORKERS"
"""Names the folder in the environment of the workers."""
EMPTY = "empty"
"""The directory in it that they start in: they would import from the one that the launch was typed in."""
CODE = "code"
"""The directory in it with the code that is sent to them."""
LOADED = ("torch", "trainables.worker.rehearsal", "trainables.worker.tune_trainable")
"""What takes seconds to import, and what every trial needs."""


def prepare(folder: Path) -> None:
    """Enter the directory of a launch's workers, find its code, and import what trials need.

    What cannot be imported fails again in the first task, which says so.
    """
    os.chdir(folder / EMPTY)
    sys.path.insert(0, str(folder / CODE))
    for name in LOADED:
        try:
            importlib.import_module(name)
        except Exception:
            return


if folder := os.environ.get(FOLDER):
    prepare(Path(folder))
