"""What a reader found: images and labels, the names of the classes, and what it did not use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = 3
"""How many names a note gives."""

# Control characters, line separators, halves of surrogate pairs, what has no width, and what changes the direction of
# a line. The joiners of zero width are letters' parts in some scripts.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]", re.UNICODE
)


def readable(name: str) -> str:
    """Return a name of a file or class for tables and terminals: what cannot be printed or encoded is escaped."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), name)


class Content(tuple["np.ndarray", "np.ndarray"]):
    """Images and labels of a split, a pair that also knows what else was read.

    Shapes: images (N, C, H, W) uint8, labels (N,) int64. `names[label]` is the name of a class; without names, classes
    are named by their labels. `notes` are lines about what is not used, or not as it is.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...]

    def __new__(
        cls, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...] = (), notes: tuple[str, ...] = ()
    ) -> Self:
        pair = super().__new__(cls, (images, labels))
        pair.names, pair.notes = names, notes
        return pair


@dataclass
class Notes:
    """Counts what a reader does not use, by reason, with the first names."""

    _found: dict[tuple[str, str], tuple[int, list[str]]] = field(default_factory=dict)

    def add(self, noun: str, reason: str, name: str) -> None:
        """Count a file or image under a reason."""
        count, names = self._found.get((noun, reason), (0, []))
        self._found[noun, reason] = (count + 1, [*names, name] if count < EXAMPLES else names)

    def lines(self) -> tuple[str, ...]:
        """Return a line for each reason."""
        return tuple(
            f"{count} {noun}{'' if count == 1 else 's'} {reason}: {listed(names, count)}"
            for (noun, reason), (count, names) in sorted(self._found.items())
        )


def listed(names: list[str], count: int | None = None) -> str:
    """Return the first of `count` names as text."""
    total = len(names) if count is None else count
    return ", ".join(map(readable, names[:EXAMPLES])) + (", ..." if total > EXAMPLES else "")
