"""Published results to compare a study with: tables of numbers with their protocol and their source."""

from __future__ import annotations

from search.results.references.base import Reference, Row
from search.results.references.piras2024 import PIRAS2024
from trainables.core.errors import SpecError
from trainables.core.registry import nearest

REFERENCES: dict[str, Reference] = {PIRAS2024.name: PIRAS2024}


def reference(name: str) -> Reference:
    """Return a reference by its name.

    Raises:
        SpecError: there is none.
    """
    if name not in REFERENCES:
        raise SpecError(f"unknown reference '{name[:40]}'; known: {', '.join(REFERENCES)}{nearest(name, REFERENCES)}")
    return REFERENCES[name]


__all__ = ["REFERENCES", "Reference", "Row", "reference"]
