"""Preemption of a worker: SIGTERM, as a machine that is taken away sends it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

GRACE_SECONDS = 4.0
"""How long a preempted worker waits for its epoch to end; the shortest notice that a cloud gives is 5 seconds."""


class Preempted(BaseException):
    """The worker has to stop at once. It is not a failure of the trial, so no handler of errors may catch it."""


class Preemption:
    """The SIGTERM handler of a worker: the trial trains to the end of its epoch and is saved there.

    The first signal only sets `requested`. A second one, or `GRACE_SECONDS` without an end, raises `Preempted` in
    `interruptible` blocks. While `trial_running` is False the signal goes to the handler that was there before.
    """

    def __init__(self) -> None:
        """Install the handler, which only a process's main thread can."""
        self.requested = False
        self.trial_running = False
        self._interruptible = False
        self._saving = False
        self._timer: threading.Timer | None = None
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._on_signal)

    def restore(self) -> None:
        """Install the earlier handler again."""
        self.ignore_more()
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def ignore_more(self) -> None:
        """Ignore further signals while the trial is saved, until `trial_running` is False."""
        self._saving = True
        if self._timer is not None:
            self._timer.cancel()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Mark a block that `Preempted` may end."""
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.trial_running and self._saving:
            return
        if self.trial_running and not self.requested:
            self.requested = True
            self._timer = threading.Timer(GRACE_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
            self._timer.daemon = True
            self._timer.start()
        elif self._interruptible:
            raise Preempted
        elif callable(self._before):
            self._before(number, frame)
        else:
            raise SystemExit(128 + number)
