"""Signals that end a command: from the first moment on, a line and the shell's exit code, and no traceback.

A launch that has begun handles them itself (`search.cluster.watchdog`).
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

MESSAGE = "interrupted; the same command starts again"
"""Where nothing has begun yet."""

_noted: list[int] = []
_installed = False
_loaded = False


class Interrupted(KeyboardInterrupt):
    """A signal asks the command to end.

    A class of its own: Python notes a plain KeyboardInterrupt that ends code given to `exec` as text, such as a
    dataclass's methods, and `python -m` kills itself at its end for it, although the exception was handled.
    """


def install() -> None:
    """Handle SIGINT, SIGTERM and SIGHUP in this process, which belongs to one command.

    SIGHUP stays ignored where it was, as by `nohup`.
    """
    global _installed
    _installed = True
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle)
    before = sys.unraisablehook
    sys.unraisablehook = lambda raised: None if isinstance(raised.exc_value, Interrupted) else before(raised)


def loaded() -> None:
    """Let commands clean up: from now on, a signal raises `Interrupted`. Imports would not survive that."""
    global _loaded
    _loaded = True


def noted() -> int | None:
    """Return the signal that was received first, None where there was none."""
    return _noted[0] if _noted else None


def over() -> None:
    """Ignore signals: the command has said how it ended."""
    if _installed:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def _handle(number: int, frame: Any) -> None:
    again = bool(_noted)
    _noted.append(number)
    if _loaded and not again:
        raise Interrupted
    end()


def end() -> NoReturn:
    """End the process at once, with a line and the code of the first signal."""
    os.write(2, f"error: {MESSAGE}\n".encode())
    os._exit(128 + (noted() or signal.SIGINT))
