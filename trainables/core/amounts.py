"""Amounts that are given as a number, or as a share of a whole that is known later."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Share = Annotated[float, Field(gt=0, lt=1)]

Interval = Annotated[int, Field(gt=0)] | Share
"""Steps between two events of a training: a number, or a real number below 1 for a share of all its steps."""

Floor = Annotated[int, Field(ge=0)] | Share
"""The least that is kept of a whole: a number, or a real number below 1 for a share."""


def amount(given: int | float, whole: int) -> int:
    """Return a number as it is, and a share as the nearest number of the whole, at least 1."""
    return given if isinstance(given, int) else max(1, round(given * whole))
