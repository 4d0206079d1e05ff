"""LaTeX: the columns a person reads, as a booktabs table with its caption."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Literal

from search.results.exporters.base import Exporter, readable

if TYPE_CHECKING:
    import pyarrow as pa

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class Latex(Exporter):
    r"""A `table` environment; the document needs `\usepackage{booktabs}` and, for the quotes, `[T1]{fontenc}`."""

    kind: Literal["latex"] = "latex"
    suffix: ClassVar[str] = ".tex"

    def render(self, table: pa.Table, *, what: str, study: str) -> bytes:
        shown = readable(table, what=what, study=study)
        caption = escape(shown.caption).replace(r"l\_inf", r"$\ell_\infty$").replace(r"l\_2", r"$\ell_2$")
        caption = caption.replace("eps = ", r"$\varepsilon$ = ").replace("95 \\%", "95\\,\\%")
        lines = [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{{''.join('r' if numeric else 'l' for numeric in shown.numeric)}}}",
            r"\toprule",
            _line(shown.headings),
            r"\midrule",
            *[_line(row) for row in shown.rows],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return ("\n".join(lines) + "\n").encode()


def _line(cells: tuple[str, ...]) -> str:
    return " & ".join(escape(cell) for cell in cells) + r" \\"


def escape(text: str) -> str:
    """Return text that LaTeX typesets as it is, on one line."""
    return "".join(_ESCAPES.get(character, character) for character in _CONTROL.sub(" ", text))
