"""The versions with which a result was computed."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

from trainables import __version__

PACKAGES = ("torch", "torchvision", "numpy", "ray", "optuna")


@cache
def versions() -> dict[str, str]:
    """Return the versions of this project, Python and the packages that a result depends on."""
    found = {"robustsearch": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
