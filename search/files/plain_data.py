"""Plain data from Python: what a file could hold, copied and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import count
from typing import Any

from search.files.diagnostics import dotted
from search.files.yaml import MAX_DEPTH, MAX_KEY, MAX_VALUES, Path_, storable
from trainables.core.errors import SpecError


def plain_data(data: Any, name: str) -> Any:
    """Copy mappings, lists and scalars; a path becomes a text, a tuple a list. `name` is what errors call the data.

    Raises:
        SpecError: something else is among them, or more than a file may hold.
    """
    return _copied(data, name, (), count(1))


def _copied(data: Any, name: str, path: Path_, counted: Any) -> Any:
    where = f"{name} {dotted(path) or 'the data'}"
    if next(counted) > MAX_VALUES or len(path) > MAX_DEPTH:
        raise SpecError(f"{where}: more than {MAX_VALUES} values, or nested deeper than {MAX_DEPTH} levels")
    if isinstance(data, Mapping):
        if wrong := [key for key in data if not isinstance(key, str) or len(key) > MAX_KEY]:
            raise SpecError(f"{where}: keys are texts of at most {MAX_KEY} characters, not {type(wrong[0]).__name__}")
        return {str(key): _copied(value, name, (*path, key), counted) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_copied(value, name, (*path, at), counted) for at, value in enumerate(data)]
    if isinstance(data, os.PathLike):
        return os.fspath(data)
    if data is not None and not isinstance(data, (bool, int, float, str)):
        allowed = "numbers, texts, paths, truth values, None, lists and mappings are allowed"
        raise SpecError(f"{where}: a value of type {type(data).__name__}; {allowed}")
    try:
        return storable(data)
    except ValueError as error:
        raise SpecError(f"{where}: {error}") from None
