"""What the import of foreign code may do to the process: nothing that outlasts it.

The code cannot end the process, and reads neither the command's arguments nor its input: to the libraries that it
imports, there are none. What it prints goes to
stderr. Changes of the current directory, signal handlers and timers, warning filters, logging, locale, umask, recursion
limit and torch's defaults are undone. What is added to `sys.path` goes to its end.
"""

from __future__ import annotations

import faulthandler
import io
import locale
import logging
import os
import signal
import sys
import sysconfig
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import FrameType
from typing import Any, SupportsIndex

PATIENCE_SECONDS = 10
"""An import that takes longer is named on stderr, with the line that it has reached."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ENDS = ("_exit", "abort", "execv", "execve")
"""Functions of `os` that end the process without an exception; the others of their kind call these."""

_contained: set[str] = set()
"""The packages and modules that were imported so."""

_PARSERS = frozenset({"argparse", "optparse", "getopt", "click", "typer", "fire", "docopt", "absl"})
"""Modules that read arguments for whoever calls them."""

OURS = frozenset({"search", "trainables", "clusters"})
_PACKAGES = Path(__file__).resolve().parents[2]
_LIBRARIES = tuple(
    dict.fromkeys(
        [sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")]
        + [str(_PACKAGES / name) + os.sep for name in sorted(OURS)]
    )
)


class Refused(SystemExit):
    """The code reads arguments that are not its own, or would end the process."""


class _Arguments(list[str]):
    """A `sys.argv` with one item, the name. Only installed libraries may ask for more, and find nothing."""

    refusing = True

    def __getitem__(self, index: Any) -> Any:
        first = isinstance(index, SupportsIndex) and index.__index__() == 0
        if self.refusing and not first and not _asked_by_library():
            raise Refused("it reads the arguments of the command (sys.argv)")
        return super().__getitem__(index)


def _asked_by_library() -> bool:
    """Return whether code of an installed library asks, by itself or by a parser of arguments that it calls."""
    frame = _caller(_PARSERS)
    return frame is not None and installed(frame.f_code.co_filename)


def _caller(between: frozenset[str]) -> FrameType | None:
    """Return the frame that called the caller of this function's caller, but for those of some packages."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None and _package(frame) in between:
        frame = frame.f_back
    return frame


def _ended_by_plugin() -> bool:
    return _package(_caller(frozenset({"os"}))) in _contained


def _package(frame: FrameType | None) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] if frame else ""


def installed(file: str) -> bool:
    """Return whether a file is part of Python, of an installed package or of robustsearch."""
    return file.startswith("<") or os.path.abspath(file).startswith(_LIBRARIES)


@contextmanager
def contained(name: str) -> Iterator[Callable[[], bool]]:
    """Import `name` within this block; yields whether a signal has arrived, whose exception is the user's."""
    with ExitStack() as stack:
        for part in (_arguments, _folder, _path, _interpreter, _logging, _torch, _no_end, _faults, _slow):
            stack.enter_context(part(name))
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(_input())
        stack.enter_context(on_stderr())
        yield stack.enter_context(_signals())


@contextmanager
def _arguments(name: str) -> Iterator[None]:
    before = sys.argv
    sys.argv = arguments = _Arguments([name])
    try:
        yield
    finally:
        arguments.refusing = False  # Whoever keeps the list may look at it later.
        sys.argv = before


@contextmanager
def _folder(name: str) -> Iterator[None]:
    try:
        before = os.getcwd()
    except OSError:
        before = None
    try:
        yield
    finally:
        if before is not None:
            with suppress(OSError):
                os.chdir(before)


@contextmanager
def _path(name: str) -> Iterator[None]:
    """Keep what is added to `sys.path`, but where it hides no module of anybody else."""
    path, before = sys.path, sys.path[:]
    try:
        yield
    finally:
        added = [entry for entry in sys.path if entry not in before]
        sys.path = path
        path[:] = before + added


@contextmanager
def _interpreter(name: str) -> Iterator[None]:
    limit, culture, mask = sys.getrecursionlimit(), locale.setlocale(locale.LC_ALL), os.umask(0o077)
    os.umask(mask)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
        locale.setlocale(locale.LC_ALL, culture)
        os.umask(mask)


@contextmanager
def _logging(name: str) -> Iterator[None]:
    root = logging.getLogger()
    level, handlers, disabled = root.level, root.handlers[:], root.manager.disable
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        logging.disable(disabled)


@contextmanager
def _torch(name: str) -> Iterator[None]:
    """Undo changes of what torch computes with by default; it may be loaded only now."""
    before = _defaults(sys.modules["torch"]) if "torch" in sys.modules else None
    try:
        yield
    finally:
        torch = sys.modules.get("torch")
        if torch is not None and hasattr(torch, "get_default_dtype"):
            cpu = torch.device("cpu")
            dtype, device, gradients = before or (torch.float32, cpu, True)
            if (dtype, device, gradients) != _defaults(torch):
                torch.set_default_dtype(dtype)
                torch.set_default_device(None if device == cpu else device)
                torch.set_grad_enabled(gradients)


def _defaults(torch: Any) -> tuple[Any, Any, bool]:
    return torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()


@contextmanager
def _no_end(name: str) -> Iterator[None]:
    """Let calls that end the process raise, later too where the code calls them, in a method or in a thread.

    A child of a fork may end, and does where the import ends.
    """
    own = os.getpid()
    before: dict[str, Callable[..., Any]] = {call: getattr(os, call) for call in _ENDS}
    _contained.add(name.partition(".")[0])

    def refusing(call: str, always: bool) -> Callable[..., Any]:
        def end(*arguments: Any, **options: Any) -> Any:
            if os.getpid() == own and (always or _ended_by_plugin()):
                shown = ", ".join(map(repr, arguments))[:80]
                raise Refused(f"it calls os.{call}({shown})")
            return before[call](*arguments, **options)

        return end

    for call in _ENDS:
        setattr(os, call, refusing(call, always=True))
    try:
        yield
    finally:
        if os.getpid() != own:
            before["_exit"](1)  # The rest of the command is the parent's alone.
        for call in _ENDS:
            setattr(os, call, refusing(call, always=False))


@contextmanager
def _faults(name: str) -> Iterator[None]:
    """Let a crash of the interpreter say in which line it happens."""
    enabled = faulthandler.is_enabled()
    if not enabled:
        with suppress(io.UnsupportedOperation, AttributeError, ValueError, OSError, RuntimeError):
            faulthandler.enable()
    try:
        yield
    finally:
        if not enabled:
            faulthandler.disable()


@contextmanager
def _slow(name: str) -> Iterator[None]:
    """Say on stderr that an import takes long, and where it is."""
    importer = threading.get_ident()

    def tell() -> None:
        frame = sys._current_frames().get(importer)
        at = f"{frame.f_code.co_filename}, line {frame.f_lineno}" if frame else "its end"
        text = f"importing the plug-in {name} takes more than {PATIENCE_SECONDS} s; it is at {at}"
        print(text, file=sys.stderr, flush=True)

    timer = threading.Timer(PATIENCE_SECONDS, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _input() -> Iterator[None]:
    """Give the code no input but that of a person at a terminal, who sees what it asks for."""
    before = sys.stdin
    try:
        person = before is not None and before.isatty()
    except ValueError:
        person = False
    if person:
        yield
        return
    with open(os.devnull) as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = before


class _Lent:
    """A stream that is not closed by those who have it on loan."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        """Leave it open."""


@contextmanager
def on_stderr() -> Iterator[None]:
    """Send what the code and its child processes print to stderr: stdout is the answer of the command."""
    lent: Any = _Lent(sys.stderr)
    with redirect_stderr(lent), redirect_stdout(lent), _descriptor():
        yield


@contextmanager
def _descriptor() -> Iterator[None]:
    try:
        kept = os.dup(1)
    except OSError:  # It is closed.
        yield
        return
    if sys.__stdout__ is not None:
        with suppress(ValueError, OSError):
            sys.__stdout__.flush()
    try:
        with suppress(OSError):
            os.dup2(2, 1)
        yield
    finally:
        if sys.__stdout__ is not None:
            with suppress(ValueError, OSError):
                sys.__stdout__.flush()
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Note signals that end a command, and undo changes of all handlers and of the timer."""
    arrived = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield arrived.is_set
        return
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    timer = signal.getitimer(signal.ITIMER_REAL)

    def noting(handler: Callable[..., Any]) -> Callable[..., Any]:
        def handle(number: int, frame: Any) -> Any:
            arrived.set()
            return handler(number, frame)

        return handle

    for number in _SIGNALS:
        if callable(handler := before[number]):
            signal.signal(number, noting(handler))
    try:
        yield arrived.is_set
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
