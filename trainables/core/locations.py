"""Paths as a person reads them."""

from __future__ import annotations

from pathlib import Path


def without_parents(path: Path) -> Path:
    """Return a path that names the same file without `..`, relative where that is below the current directory.

    A path that has no `..` stays as it is. Links are followed, for `link/..` is not the folder that holds the link.
    """
    if ".." not in path.parts:
        return path
    whole = path.resolve()
    return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole
