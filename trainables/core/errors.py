"""Errors that a user, a file or a machine caused, by class.

`failure_class` is what a failed trial records; the search stops early when the first trials
all fail with the same class.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended, as its exit status; `128 + n` is the shell's code for signal n."""

    DONE = 0
    BUG = 1
    BAD_INPUT = 2
    NO_FEASIBLE_POINT = 3
    TRIALS_FAILED = 4
    STORAGE = 5
    CLUSTER = 6
    HANGUP = 129
    INTERRUPTED = 130
    PIPE_CLOSED = 141
    TERMINATED = 143

    @classmethod
    def of_signal(cls, number: int) -> ExitCode:
        """Return the code of a command that a signal ended.

        Raises:
            ValueError: no command ends by this signal.
        """
        return cls(128 + number)


class RobustsearchError(Exception):
    """Base of every error that is reported to a person in one message; `exit_code` is the command's."""

    exit_code = ExitCode.BAD_INPUT


class SpecError(RobustsearchError):
    """A study, cluster or trial description is wrong."""


class DataError(RobustsearchError):
    """Files of a data set are missing or not what they should be."""


class Diverged(RobustsearchError):
    """Training produced a non-finite loss or non-finite weights."""


class NoDevice(RobustsearchError):
    """The worker was given a GPU that it cannot use; another worker may have one."""

    exit_code = ExitCode.CLUSTER


class TimedOut(BaseException):
    """The trial exceeded a limit of time. No handler of errors in a network or a plug-in may catch it."""


class StorageError(RobustsearchError):
    """The storage cannot be read or written."""

    exit_code = ExitCode.STORAGE


class StageDamaged(StorageError):
    """A stored stage is damaged or absent; the message names the file."""


class StageLost(StorageError):
    """A stored stage is damaged; it has been dropped, and is computed again when it is asked for."""


_OUT_OF_MEMORY = re.compile(
    r"out of memory|(can(no|')t|unable to|failed to|could not) allocate|bad_alloc|alloc_failed|memoryallocation"
    r"|(m|re)alloc of size .* failed",
    re.IGNORECASE,
)
"""What torch, CUDA and its libraries, MPS, C++ and Arrow say where memory runs out: few have a class for it."""


_NOT_FINITE = re.compile(
    r"non-finite values|(contains?|contained|returned|produced|convert|got)\b[^.]*\b(nans?|infs?|infinity|infinite)\b",
    re.IGNORECASE,
)


def failure_class(error: BaseException) -> str:
    """Name the class under which a trial that raised `error` is recorded.

    One of `oom`, `timeout`, `diverged`, `data`, `storage`, `spec`, `bug`. Memory or time that ran out is the cause of
    whatever was raised while that was handled.
    """
    if any(isinstance(cause, TimedOut) for cause in _causes(error)):
        return "timeout"
    if any(_out_of_memory(cause) for cause in _causes(error)):
        return "oom"
    if _not_finite(error):
        return "diverged"
    classes = ((Diverged, "diverged"), (DataError, "data"), (StorageError, "storage"), (SpecError, "spec"))
    return next((name for kind, name in classes if isinstance(error, kind)), "bug")


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return not isinstance(error, RobustsearchError) and _OUT_OF_MEMORY.search(str(error)) is not None


def _not_finite(error: BaseException) -> bool:
    """Return whether an error is how torch, numpy, scipy or Python refuse numbers that are not finite."""
    if isinstance(error, RobustsearchError) or not isinstance(error, (ArithmeticError, RuntimeError, ValueError)):
        return False
    return isinstance(error, FloatingPointError) or _NOT_FINITE.search(str(error)) is not None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, those of its group, and what it was raised from, each once."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        if (cause := left.pop()) is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        left += [cause.__cause__, None if cause.__suppress_context__ else cause.__context__]
        left += cause.exceptions if isinstance(cause, BaseExceptionGroup) else ()
