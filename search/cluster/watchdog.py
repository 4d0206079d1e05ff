"""What ends a launch from outside: signals, and a cluster that died."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from search.files.interrupts import Interrupted

LOOK_EVERY = 1.0
PATIENCE_SECONDS = 5.0
"""How long a launch whose cluster has died may take to end by itself; preempted workers save meanwhile."""
LAST_SECONDS = 20.0
"""After these further seconds its process is ended. Slurm gives 30 in all; Ray ends it after 60, silently."""


ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_catching: list[Interrupt] = []
"""Those that handle signals at the moment."""


def catching() -> Interrupt | None:
    """Return what handles signals at the moment, None where nothing of ours does."""
    return _catching[-1] if _catching else None


def signalled() -> bool:
    """Return whether a signal asks the launch to end."""
    return any(interrupt.signal is not None for interrupt in _catching)


def handle_again() -> None:
    """Put our handlers back, where native code may have replaced them."""
    if threading.current_thread() is threading.main_thread():
        for interrupt in _catching[-1:]:
            for number in interrupt.handled:
                signal.signal(number, interrupt.note)


@dataclass(eq=False)
class Interrupt:
    """What ends a launch from outside: the first signal is noted, a second Ctrl-C ends the launch at once."""

    signal: int | None = None
    cluster_died: bool = False
    _old: dict[int, Any] = field(default_factory=dict)
    _pipe: int = -1
    _raised: bool = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Handle SIGINT, SIGTERM and SIGHUP for the length of a `with` block, which only a main thread can.

        Inside another such block of the same object nothing changes. SIGHUP stays ignored where it was, as by `nohup`.
        """
        if self in _catching or threading.current_thread() is not threading.main_thread():
            yield
            return
        _catching.append(self)
        self._pipe, write = os.pipe()
        os.set_blocking(self._pipe, False)
        os.set_blocking(write, False)
        woken = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        try:
            for number in map(int, ENDING_SIGNALS):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._old[number] = signal.signal(number, self.note)
            yield
        except Exception as error:
            # Native code that is interrupted in an import may raise an error of its own instead.
            if self._raised:
                raise Interrupted from error
            raise
        finally:
            for number, handler in self._old.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(woken)
            _catching.remove(self)
            os.close(self._pipe)
            os.close(write)

    def received(self) -> int | None:
        """Return the signal to end, also where native code keeps this process from handling it.

        The system has written the number into a pipe.
        """
        if self.signal is None and self._pipe >= 0:
            with suppress(OSError):
                numbers = [number for number in os.read(self._pipe, 64) if number in self._old]
                # The watchdog's own interruption of the main thread is written there as a Ctrl-C.
                self.signal = next((n for n in numbers if n != signal.SIGINT or not self.cluster_died), None)
        return self.signal

    @property
    def handled(self) -> tuple[int, ...]:
        """The signals that this object handles."""
        return tuple(self._old)

    def note(self, number: int, frame: Any) -> None:
        """Handle a signal."""
        if number == signal.SIGINT and (self.signal is not None or self.cluster_died):
            self._raised = True
            raise Interrupted
        self.signal = number


class Watchdog:
    """A thread that checks the cluster, whose death Ray itself reports a minute later."""

    def __init__(self, interrupt: Interrupt, last_words: Callable[[], int] | None) -> None:
        """Watch nothing yet; `last_words` prints how the launch ended and returns the exit code.

        Where it is None, the process is never ended.
        """
        self._interrupt = interrupt
        self._last_words = last_words
        self._alive: Callable[[], bool] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Run the thread for the length of a `with` block."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()

    @contextmanager
    def over(self, alive: Callable[[], bool]) -> Iterator[None]:
        """Expect the cluster to live for the length of a `with` block."""
        self._alive = alive
        try:
            yield
        finally:
            self._alive = None

    def _look(self) -> None:
        died: float | None = None
        interrupted = False
        while not self._over.wait(LOOK_EVERY):
            alive = self._alive
            if died is None and alive is not None and not alive():
                died = time.monotonic()
                self._interrupt.received()
                self._interrupt.cluster_died = True
            since = time.monotonic() - died if died is not None else 0.0
            if since > PATIENCE_SECONDS and not interrupted and self._alive is not None:
                interrupted = True
                _thread.interrupt_main()
            # A signal that all processes received comes from a system that kills them soon.
            last = LAST_SECONDS / 2 if died is not None and self._interrupt.received() else LAST_SECONDS
            if since > PATIENCE_SECONDS + last and self._last_words is not None:
                os._exit(self._last_words())
