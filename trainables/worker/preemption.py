"""Notice that a worker has to go: SIGTERM, as a machine that is taken away sends it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NOTICE_SECONDS = 4.0
"""How long a worker that is told to go waits for its epoch to end; the shortest notice given is 5 seconds."""


class Away(BaseException):
    """The worker has to go at once. No failure of the trial, so no handler of errors may take it for one."""


class Notice:
    """SIGTERM, as a machine that is taken away sends it: work goes on to the epoch's end, and is saved there.

    The first one only sets `given`. A second, or `NOTICE_SECONDS` without an end, raises `Away` in `busy` blocks. Where
    the worker has no trial `in_hand`, whoever handled the signal before does so.
    """

    def __init__(self) -> None:
        """Take over the signal, which only a process's main thread can."""
        self.given = False
        self.in_hand = False
        self._busy = False
        self._leaving = False
        self._timer: threading.Timer | None = None
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._on_signal)

    def restore(self) -> None:
        """Give the signal back."""
        self.leave()
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def leave(self) -> None:
        """Save in peace: no further signal is heeded until `in_hand` is False."""
        self._leaving = True
        if self._timer is not None:
            self._timer.cancel()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Mark a block that `Away` may end."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.in_hand and self._leaving:
            return
        if self.in_hand and not self.given:
            self.given = True
            self._timer = threading.Timer(NOTICE_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
            self._timer.daemon = True
            self._timer.start()
        elif self._busy:
            raise Away
        elif callable(self._before):
            self._before(number, frame)
        else:
            raise SystemExit(128 + number)
