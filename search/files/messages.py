"""Messages on stderr and JSON on stdout, without control characters."""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TextIO

from trainables.core.contained import on_stderr
from trainables.core.errors import ExitCode

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    """Write characters that are invisible or drive the terminal as escapes; lines and tabs stay."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def counted(number: int, thing: str) -> str:
    """Return a number of things in words: `1 stage`, `2 stages`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def say(message: str) -> None:
    """Print a message on stderr; where nobody can read it, it is lost."""
    try:
        if sys.stderr is not None:
            print(printable(message), file=sys.stderr, flush=True)
    except OSError:
        abandon(sys.stderr)


def abandon(stream: TextIO | None) -> None:
    """Send to nowhere what a stream still holds, which Python would complain about at its exit."""
    try:
        if stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        return  # It has no descriptor.


def prints_on_stderr(when: bool) -> AbstractContextManager[Any]:
    """Send what code of the user prints within this block to stderr, `when` stdout is for one JSON document."""
    return on_stderr() if when and sys.stderr is not None else nullcontext()


def emit(data: Any) -> None:
    """Print JSON on stdout."""
    print(json.dumps(data, indent=1, allow_nan=False))


def failed(message: str, exit_code: ExitCode) -> dict[str, Any]:
    """Return the part of the JSON of a command that gives the reason of an exit code; nothing for 0."""
    return {"error": {"message": message, "exit_code": exit_code}} if exit_code else {}
