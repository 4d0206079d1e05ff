"""Markdown: the columns a person reads, as a pipe table under its caption."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from search.results.exporters.base import Exporter, Readable, one_line, readable

if TYPE_CHECKING:
    import pyarrow as pa

_SPECIAL = re.compile(
    r"\[-?[\d.]+, -?[\d.]+\](?![(\[:])"  # an interval, which no reader takes for a link
    r"|(?<=[^\W_])_(?=[^\W_])"  # within a word
    r"|&(?!#?\w+;)"  # no entity
    r"|(?P<escaped>[\\`*_\[\]|~$#&<]|^>)"
)
"""What may be markup; only what is `escaped` is."""
_WIDEST = 40
"""Longer cells run over the width of their column, so that one of them does not widen all rows."""


class Markdown(Exporter):
    """A table in GitHub's Markdown."""

    kind: Literal["markdown"] = "markdown"
    suffix: ClassVar[str] = ".md"
    for_reading: ClassVar[bool] = True

    def render(self, table: pa.Table, *, what: str, study: str) -> bytes:
        return typeset(readable(table, what=what, study=study))


def typeset(shown: Readable) -> bytes:
    """Return a table for people: a terminal, which is not a reader of Markdown, shows columns of equal width too."""
    cells = [[escape(cell) for cell in row] for row in (shown.headings, *shown.rows)]
    widths = [min(_WIDEST, max(4, *map(len, column))) for column in zip(*cells, strict=True)]
    headings, *rows = [_line(row, widths, shown.numeric) for row in cells]
    dashes = ["-" * (width - 1) for width in widths]
    rule = [f"{line}:" if right else f":{line}" for line, right in zip(dashes, shown.numeric, strict=True)]
    caption = "\n\n".join(escape(line) for line in shown.caption.split("\n"))
    return ("\n".join([caption, "", headings, _line(rule, widths, shown.numeric), *rows]) + "\n").encode()


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    )
    return f"| {' | '.join(padded)} |"


def escape(text: str) -> str:
    """Return text that Markdown and HTML show as it is, on one line."""

    def escaped(found: re.Match[str]) -> str:
        match found["escaped"]:
            case None:
                return found[0]
            case "&" | "<" | ">" as special:
                return html.escape(special)
            case special:
                return f"\\{special}"

    return _SPECIAL.sub(escaped, one_line(text))
