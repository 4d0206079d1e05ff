"""Markdown: the columns a person reads, as a pipe table under its caption."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Literal

from search.results.exporters.base import Exporter, Readable, one_line, readable

if TYPE_CHECKING:
    import pyarrow as pa

_SPECIAL = re.compile(r"([\\`*_\[\]|~$#])")


class Markdown(Exporter):
    """A table in GitHub's Markdown."""

    kind: Literal["markdown"] = "markdown"
    suffix: ClassVar[str] = ".md"
    for_reading: ClassVar[bool] = True

    def render(self, table: pa.Table, *, what: str, study: str) -> bytes:
        return typeset(readable(table, what=what, study=study))


def typeset(shown: Readable) -> bytes:
    """Return a table for people."""
    rule = ["---:" if numeric else ":---" for numeric in shown.numeric]
    lines = [escape(shown.caption), "", _line([escape(h) for h in shown.headings]), _line(rule)]
    lines += [_line([escape(cell) for cell in row]) for row in shown.rows]
    return ("\n".join(lines) + "\n").encode()


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Return text that Markdown and HTML show as it is, on one line."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return _SPECIAL.sub(r"\\\1", text)
