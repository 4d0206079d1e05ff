"""Limits of CPU time and memory for one input."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CPU_SECONDS = 10.0
"""Well above the two seconds that an input may take: the machine of a test may be slow."""
MEMORY = 2 * 2**30


class TooLong(BaseException):
    """An input took too long; no code under test catches it."""


def _ended(number: int, frame: Any) -> None:
    raise TooLong(f"more than {CPU_SECONDS} seconds of CPU")


@contextmanager
def limited() -> Iterator[None]:
    """Raise where the block takes more CPU time or memory than any input may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGVTALRM, _ended)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)
