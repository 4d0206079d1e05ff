"""Field types of a study file beside numbers and specs: names, bounds, durations, sizes, modules."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, TypeAdapter, WithJsonSchema

from search.files.diagnostics import shown
from trainables.core import plugins

_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_BOUND = re.compile(r"\s*(>=|<=)\s*([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)\s*")
_DURATION = re.compile("".join(f"(?:([0-9]{{1,12}}){unit})?" for unit in "dhms"))


def _portable(name: str) -> str:
    if not _NAME.fullmatch(name):
        allowed = (
            "at most 64 lower-case letters, digits, dots, dashes and underscores, beginning with a letter or digit"
        )
        raise ValueError(f"{shown(name)} is not a name for a study: {allowed}")
    if name.split(".")[0].lower() in _DEVICES:
        raise ValueError(f"'{name}' is a device name on Windows; choose another")
    if ".." in name or name.endswith("."):
        raise ValueError(f"'{name}' has dots where a directory's name cannot")
    return name


def _seconds(value: Any) -> Any:
    """Read `1h30m` as seconds; everything else is left to the field."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.replace(" ", ""))
    if not match or not any(match.groups()):
        raise ValueError(f"{shown(value)} is not a time; write seconds, or a text such as 30m or 1h30m")
    return sum(int(n or 0) * unit for n, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))


_SIZE: TypeAdapter[ByteSize] = TypeAdapter(ByteSize)


def _bytes(value: Any) -> Any:
    """Read `20GB` as bytes, in powers of 1000, and `20GiB` in powers of 1024; everything else is left to the field."""
    if not isinstance(value, str):
        return value
    try:
        if not value.isascii() or len(value) > 64:
            raise ValueError
        return int(_SIZE.validate_python(value.strip()))
    except (ValueError, OverflowError):  # A ValidationError is a ValueError; the size may be infinite.
        raise ValueError(f"{shown(value)} is not a size; write bytes, or a text such as 500MB or 20GB") from None


def size_text(size: int) -> str:
    """Write bytes for a person: `1.4 GB`."""
    return ByteSize(size).human_readable(decimal=True, separator=" ")


def bound(text: str) -> tuple[Literal[">=", "<="], float]:
    """Split a constraint such as `>= 0.75`.

    Raises:
        ValueError: it is none.
    """
    match = _BOUND.fullmatch(text)
    if not match or math.isinf(float(match[2])):
        raise ValueError(f"{shown(text)} is not a constraint; write one such as '>= 0.75'")
    return (">=" if match[1] == ">=" else "<="), float(match[2])


def _normal_bound(text: str) -> str:
    operator, number = bound(text)
    return f"{operator} {number:g}" if float(f"{number:g}") == number else f"{operator} {number!r}"


def _module(name: str) -> str:
    if problem := plugins.name_problem(name):
        raise ValueError(problem)
    return name


Name = Annotated[str, AfterValidator(_portable), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})]
Bound = Annotated[str, AfterValidator(_normal_bound)]
Duration = Annotated[float, BeforeValidator(_seconds, json_schema_input_type=float | str), Field(gt=0)]
Size = Annotated[int, BeforeValidator(_bytes, json_schema_input_type=int | str), Field(gt=0, lt=2**63)]
Module = Annotated[
    str, AfterValidator(_module), WithJsonSchema({"type": "string", "pattern": r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"})
]
