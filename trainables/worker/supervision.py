"""What a worker does to be supervised: it starts the supervisor, tells it of trials, and shares signs of progress."""

from __future__ import annotations

import atexit
import faulthandler
import io
import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from trainables.core import heartbeat
from trainables.core.errors import TimedOut
from trainables.worker import supervisor as program
from trainables.worker.supervisor import NUMBERS, Order

_START = "import sys; sys.path[:] = {paths!r}; from trainables.worker.supervisor import main; main()"


_DEBUGGERS = {"bdb", "pdb", "ipdb", "pudb", "pydevd", "_pydevd_bundle"}


class Supervision:
    """The supervisor of this process, and the memory and the file that both share."""

    def __init__(self) -> None:
        """Start the supervisor.

        Raises:
            OSError: no process can be started.
        """
        self._shared = mmap.mmap(shared := _file("beats"), program.SHARED_BYTES)
        self._numbers = memoryview(self._shared)
        self._stack = _file("stack")
        self._interruptible = False
        self.pid = os.getpid()
        faulthandler.register(program.DUMP_SIGNAL, file=self._stack, all_threads=True)
        root = str(Path(__file__).parents[2])
        started = [sys.executable, "-I", "-S", "-c", _START.format(paths=[root, *sys.path])]
        self._process = subprocess.Popen(
            [*started, str(self.pid), str(shared), str(self._stack)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(shared, self._stack),
            process_group=0,  # Ray kills the group of a worker that died, 0.2 s after it.
        )
        heartbeat.share(self._numbers[:8])
        atexit.register(self._stop)

    def order(self, order: Order | None) -> None:
        """Have a trial watched, or none; a supervisor that has died watches nothing."""
        os.ftruncate(self._stack, 0)
        os.lseek(self._stack, 0, os.SEEK_SET)
        self.doing("")
        if order is not None and order.kill:
            self._own_process()
        fields = None if order is None else order.__dict__
        with suppress(OSError, ValueError):
            assert isinstance(self._process.stdin, io.BufferedWriter)
            self._process.stdin.write(json.dumps(fields).encode() + b"\n")
            self._process.stdin.flush()

    def doing(self, text: str) -> None:
        """Note what the trial does, and the memory it has used, for a report of its death."""
        unit = 1 if sys.platform == "darwin" else 1024
        self._set(2, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
        program.write_text(self._shared, program.DOING_AT, text)

    def _stop(self) -> None:
        """End the supervisor with this process."""
        with suppress(OSError, ValueError, subprocess.TimeoutExpired):
            if self.pid == os.getpid():
                self._process.communicate(timeout=5)

    def _set(self, index: int, number: int) -> None:
        self._numbers[8 * index : 8 * index + 8].cast("Q")[0] = number

    @contextmanager
    def working(self, *, interruptible: bool) -> Iterator[None]:
        """Count the time in the block as work; `TimedOut` may be raised in an interruptible one."""
        before = NUMBERS.unpack_from(self._shared)[1]
        handler: Any = None
        if interruptible and threading.current_thread() is threading.main_thread():
            handler = signal.signal(program.INTERRUPT_SIGNAL, self._on_interrupt)
        self._interruptible = handler is not None
        heartbeat.beat()
        self._set(1, 1)
        try:
            yield
        finally:
            self._interruptible = False
            self._set(1, before)
            if handler is not None:
                signal.signal(program.INTERRUPT_SIGNAL, handler)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if _in_debugger(frame):
            heartbeat.beat()
        elif self._interruptible:
            raise TimedOut(program.read_text(self._shared, program.REASON_AT))

    def _own_process(self) -> None:
        """Note what ends a process that runs trials and nothing else, where Python or a fatal signal does."""
        faulthandler.enable(file=self._stack, all_threads=True)
        if getattr(os._exit, "noted", False):
            return
        leave = os._exit

        def noted(status: int) -> None:
            if os.getpid() == self.pid:
                os.write(self._stack, f"{program.EXIT_NOTE}{status}\n".encode())
                faulthandler.dump_traceback(file=self._stack, all_threads=False)
            leave(status)

        noted.noted = True  # type: ignore[attr-defined]
        os._exit = noted  # type: ignore[assignment]


def _in_debugger(frame: FrameType | None) -> bool:
    """Return whether a debugger waits for its user."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False


def _file(name: str) -> int:
    """Return an open file without a name, of the size of the shared memory."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(f"robustsearch-{name}")
    else:
        descriptor, path = tempfile.mkstemp()
        os.unlink(path)
    os.ftruncate(descriptor, program.SHARED_BYTES)
    return descriptor


_own: Supervision | None = None


def supervision() -> Supervision | None:
    """Return the supervision of this process, started at the first call; None where none can be started."""
    global _own
    if _own is None or _own.pid != os.getpid():
        with suppress(OSError, ValueError, RuntimeError):
            _own = Supervision()
    return _own if _own is not None and _own.pid == os.getpid() else None


@contextmanager
def supervised(order: Order) -> Iterator[None]:
    """Have a block of work watched on its own, such as the probe of a worker, if the order has limits."""
    limited = order.silence is not None or order.trial is not None
    own = supervision() if limited else None
    if own is None:
        yield
        return
    own.order(order)
    try:
        with own.working(interruptible=not order.kill):
            yield
    finally:
        own.order(None)
