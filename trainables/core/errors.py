"""Errors that a user, a file or a machine caused, by class.

`failure_class` is what a failed trial records; the search stops early when the first trials
all fail with the same class.
"""

from __future__ import annotations


class RobustsearchError(Exception):
    """Base of every error that is reported to a person in one message; `exit_code` is the command's."""

    exit_code = 2


class SpecError(RobustsearchError):
    """A study, cluster or trial description is wrong."""


class DataError(RobustsearchError):
    """Files of a data set are missing or not what they should be."""


class Diverged(RobustsearchError):
    """Training produced a non-finite loss or non-finite weights."""


class StorageError(RobustsearchError):
    """The storage cannot be read or written."""

    exit_code = 5


class StageLost(StorageError):
    """A stored stage turned out to be damaged; it is dropped, and computed again when it is asked for."""


def failure_class(error: BaseException) -> str:
    """Name the class under which a trial that raised `error` is recorded.

    One of `oom`, `diverged`, `data`, `storage`, `spec`, `bug`.
    """
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "oom"
    classes = ((Diverged, "diverged"), (DataError, "data"), (StorageError, "storage"), (SpecError, "spec"))
    return next((name for kind, name in classes if isinstance(error, kind)), "bug")
