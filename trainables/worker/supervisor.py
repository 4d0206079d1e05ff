"""The supervisor of a worker: a small process of its own, which sees when the worker hangs, stops or dies.

Only another process can end one that holds Python's lock or is stopped, and say why one died. It imports no torch.
Orders come as JSON, a line each, on its standard input; see `trainables.worker.supervision`, which starts it.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import select
import signal
import struct
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.store import paths
from trainables.store.storage import Address, Storage

SHARED_BYTES = 4096
"""The size of the memory shared with the worker: numbers (beats, whether it works, its peak memory) and two texts."""
NUMBERS = struct.Struct("QQQ")
DOING_AT, REASON_AT, TEXT_BYTES = 1024, 2048, 1024
"""Where the texts begin, which end with a zero: what the worker does, and why it is interrupted."""
DUMP_SIGNAL = signal.SIGUSR2
"""At this signal the worker writes its stack, even where it holds Python's lock."""
INTERRUPT_SIGNAL = signal.SIGALRM
DUMP_SECONDS = 3.0
"""How long the supervisor waits for the worker's stack."""
REPORT_SECONDS = 10.0
PAUSE_SECONDS = 10.0
"""The pause before a worker that does not react is interrupted again."""
MAX_TICK = 1.0
STACK_BYTES = 20_000
_FATAL = {
    "Segmentation fault": signal.SIGSEGV,
    "Bus error": signal.SIGBUS,
    "Aborted": signal.SIGABRT,
    "Floating": signal.SIGFPE,
    "Illegal instruction": signal.SIGILL,
}
EXIT_NOTE = "exit code "
"""What the worker writes before its stack where Python code ends the process."""


@dataclass(frozen=True)
class Order:
    """A trial to watch: `silence` and `trial` are its limits in seconds, None for none.

    With `kill` the process is ended where a limit is exceeded; else its main thread is interrupted. Messages call the
    work `name`. A report goes to the trial's folder, or to the file `report` in the storage.
    """

    number: int
    storage: Address
    silence: float | None
    trial: float | None
    kill: bool
    name: str = "the trial"
    report: str | None = None

    @property
    def tick(self) -> float:
        """The seconds between two looks at the worker."""
        limits = [limit for limit in (self.silence, self.trial) if limit is not None]
        return max(0.02, min([MAX_TICK, *(limit / 10 for limit in limits)]))


class Supervisor:
    """Watches one process, `pid`, from trial to trial."""

    def __init__(self, pid: int, shared: mmap.mmap, stack: int) -> None:
        """`stack` is the file, shared with the worker, to which it writes its stack."""
        self._pid, self._shared, self._stack = pid, shared, stack
        self._order: Order | None = None
        self._storage: Storage | None = None
        self._input: bytes | None = b""
        self._peak = 0

    def run(self) -> None:
        """Follow orders until the worker ends; a report says why, if it was at work on a trial."""
        watched = [0]
        with suppress(OSError, AttributeError):
            watched.append(os.pidfd_open(self._pid))
        while True:
            ready, _, _ = select.select(watched, [], [], self._order.tick if self._order else MAX_TICK)
            if 0 in ready and not self._read_orders():
                watched.remove(0)
            if os.getppid() != self._pid:
                return self._died()
            if 0 not in watched and self._order is None:
                return None
            self._look()

    def _read_orders(self) -> bool:
        """Take the newest order; return False where there will be none any more."""
        content = os.read(0, 65536)
        *lines, rest = ((self._input or b"") + content).split(b"\n")
        self._input = rest
        for line in lines:
            self._take(json.loads(line))
        return bool(content)

    def _take(self, fields: dict[str, Any] | None) -> None:
        self._order = Order(**fields) if fields else None
        self._storage = Storage(self._order.storage) if self._order else None
        self._last = time.monotonic()
        self._silent = self._worked = self._pause = 0.0
        self._interrupts = 0
        self._beats = -1
        self._kills = _out_of_memory_kills()
        self._peak = 0
        self._observe()

    def _look(self) -> None:
        """Count what has passed; time in which this process was stopped too, or the machine slept, does not count."""
        if self._order is None:
            return
        now = time.monotonic()
        passed, self._last = min(now - self._last, 2 * self._order.tick), now
        beats, working, _ = NUMBERS.unpack_from(self._shared)
        stopped = self._observe()
        if not working and not stopped:
            self._silent = 0.0
            return
        self._worked += passed
        if beats != self._beats:
            self._beats, self._silent, self._interrupts = beats, 0.0, 0
        else:
            self._silent += passed
        self._pause = max(0.0, self._pause - passed)
        for name, spent, limit in (
            ("silence", self._silent, self._order.silence),
            ("trial", self._worked, self._order.trial),
        ):
            if limit is not None and spent > limit and not self._pause:
                self._expire(name, limit, stopped=stopped)
                return

    def _observe(self) -> bool:
        """Note the worker's memory; return whether it is stopped."""
        with suppress(OSError, ValueError, IndexError):
            status = Path(f"/proc/{self._pid}/status").read_text()
            self._peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
            return status.split("State:")[1].split()[0] == "T"
        return False

    def _expire(self, name: str, limit: float, *, stopped: bool) -> None:
        """End the worker's process, or interrupt it; the trial may have ended while its stack was written."""
        order = self._order
        assert order is not None
        stack = "" if stopped else self._dump()
        where = "its process is stopped" if stopped else _where(stack)
        what = "showed no progress for" if name == "silence" else "worked for"
        message = f"{order.name} {what} {limit:g} s, the limit timeouts.{name} of the study: {where}"
        while select.select([0], [], [], 0)[0] and self._read_orders():
            continue
        if self._order is not order:
            return
        if order.kill:
            self._report("timeout", message, stack)
            os.kill(self._pid, signal.SIGKILL)
            self._order = None
        else:
            self._interrupt(message)

    def _interrupt(self, message: str) -> None:
        """Interrupt the worker's main thread; where that does not help, say so, and try again later."""
        if self._interrupts == 1:
            print(
                f"{message}; the code there cannot be interrupted: end this process, and launch on `kind: local`, "
                "where a trial has a process of its own",
                file=sys.stderr,
                flush=True,
            )
        write_text(self._shared, REASON_AT, message)
        self._interrupts += 1
        self._pause = PAUSE_SECONDS
        os.kill(self._pid, INTERRUPT_SIGNAL)

    def _dump(self) -> str:
        """Return the worker's stack as it writes it now."""
        before = os.fstat(self._stack).st_size
        os.kill(self._pid, DUMP_SIGNAL)
        until, size = time.monotonic() + DUMP_SECONDS, before
        while time.monotonic() < until:
            time.sleep(0.05)
            if size > before and os.fstat(self._stack).st_size == size:
                break
            size = os.fstat(self._stack).st_size
        return os.pread(self._stack, STACK_BYTES, before).decode(errors="replace")

    def _died(self) -> None:
        """Report of what the worker died, unless it was between two trials."""
        if self._order is None:
            return
        stack = os.pread(self._stack, STACK_BYTES, 0).decode(errors="replace")
        oom = _out_of_memory_kills() > self._kills and not stack
        # The worker's own note is as old as what it did last; this process may not have looked since its start.
        peak = max(self._peak, NUMBERS.unpack_from(self._shared)[2])
        if self._order.report and not (stack or oom):
            return  # Ray ends a worker whose launch is over.
        used = f"; it had used {peak / 1e9:.2f} GB" if peak else ""
        doing = read_text(self._shared, DOING_AT)
        cause = "SIGKILL (exit code -9), as the system had no memory left" if oom else _cause(stack)
        message = f"its worker process died{doing and ', '}{doing}: {cause}{used}"
        self._report("oom" if oom else "crashed", message, stack)

    def _report(self, kind: str, message: str, stack: str) -> None:
        """Leave a failure, as `trainables.store.records.Failure` describes it, for the driver."""
        assert self._order is not None
        assert self._storage is not None
        content = json.dumps({"kind": kind, "message": message, "traceback": stack[-8000:]}, indent=1).encode()
        path = self._order.report or paths.worker_report(self._order.number)
        write = self._storage.write

        def report() -> None:
            with suppress(Exception):  # Without a report the driver counts a crash.
                write(path, content)

        # The storage may be what hangs.
        thread = threading.Thread(target=report, daemon=True)
        thread.start()
        thread.join(REPORT_SECONDS)


def write_text(shared: mmap.mmap, at: int, text: str) -> None:
    """Write one of the texts of the shared memory; a long one is cut."""
    content = text.encode()[: TEXT_BYTES - 1] + b"\0"
    shared[at : at + len(content)] = content


def read_text(shared: mmap.mmap, at: int) -> str:
    """Return one of the texts of the shared memory."""
    return shared[at : at + TEXT_BYTES].split(b"\0")[0].decode(errors="replace")


def _where(stack: str) -> str:
    """Return the innermost frame of the thread that works, by a stack as `faulthandler` writes it."""
    thread = re.search(r"^(Current thread|Stack) .*?(?=\n\n|\Z)", stack, re.DOTALL | re.MULTILINE)
    frames = re.findall(r'File "(.*?)", line (\d+) in (\S+)', thread[0] if thread else stack)
    frames = [frame for frame in frames if not frame[0].endswith("worker/supervision.py")]
    if not frames:
        return "it left no stack"
    file, line, function = frames[0]
    # Ray unpacks what it ships to folders that are named by a hash.
    short = "/".join(part for part in file.split("/")[-2:] if not part.startswith("_ray_pkg_"))
    return f"{short}, line {line}, in {function}"


def _cause(stack: str) -> str:
    """Return what ended a process, by what it wrote last."""
    if stack.startswith(EXIT_NOTE):
        return f"{stack.splitlines()[0]}, by {_where(stack)}"
    for name, number in _FATAL.items():
        if f"Fatal Python error: {name}" in stack:
            return f"{number.name} (exit code -{int(number)}), in {_where(stack)}"
    if "Fatal Python error" in stack:
        return f"{stack.splitlines()[0]}, in {_where(stack)}"
    return "SIGKILL (exit code -9), or an exit that left no trace"


def _out_of_memory_kills() -> int:
    """Return how many processes the system has killed for their memory, in this control group or on the machine."""
    files = [Path("/proc/vmstat")]
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if not controllers:
                files.insert(0, Path(f"/sys/fs/cgroup{group}/memory.events"))
            elif "memory" in controllers.split(","):
                files.insert(0, Path(f"/sys/fs/cgroup/memory{group}/memory.oom_control"))
    for file in files:
        with suppress(OSError, StopIteration, ValueError):
            return _count(file.read_text())
    return 0


def _count(text: str) -> int:
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))


def main() -> None:
    """Supervise the parent process; the arguments are its number and the two shared files."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # They end the worker, and that ends this process.
        signal.signal(number, signal.SIG_IGN)
    pid, shared, stack = map(int, sys.argv[1:4])
    Supervisor(pid, mmap.mmap(shared, SHARED_BYTES), stack).run()
