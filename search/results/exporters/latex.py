"""LaTeX: the columns a person reads, as a booktabs table with its caption."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, ClassVar, Literal

from search.results.exporters.base import Exporter, Readable, one_line, readable

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
    # The quote of the typewriter font is straight in every font encoding.
    '"': r"\texttt{\char34}",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
}
_MATHS = {
    **{"→": "to", "←": "leftarrow", "↔": "leftrightarrow", "⇒": "Rightarrow", "↑": "uparrow", "↓": "downarrow"},
    **{"≤": "leq", "≥": "geq", "≠": "neq", "≈": "approx", "∞": "infty", "∈": "in", "√": "surd", "∂": "partial"},
    **{"−": "-", "×": "times", "±": "pm", "·": "cdot", "ℓ": "ell", "∑": "sum", "∇": "nabla", "ε": "varepsilon"},
}
_TEXT = {
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "\u00a0": "~",
    "°": r"\textdegree{}",
}
_GREEK = frozenset(
    (
        *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu"),
        *("xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta"),
        *("Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"),
    )
)
_ACCENTS = dict(
    zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327\u0328", "`'^~=u.\"rHvck", strict=True)
)
_LETTERS = {"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L", "ı": "i"}
_LIGATURES = re.compile("(?<=-)(?=-)|(?<=')(?=')|(?<=,)(?=,)|(?<=[?!])(?=`)")
_LONG = 40
"""Cells of more characters are broken into lines."""
_PIECE = re.compile(r"\s+|[^\x00-\x7f]|[!-~]{1,7}?[/.,:;=\-_()\\]|[!-~]{1,8}")
"""What is not broken: blanks, one character of another script, a few letters with the punctuation behind them."""


class Latex(Exporter):
    r"""A `table` environment; the document needs `\usepackage{booktabs,graphicx}`.

    A table that is wider than the line is scaled down to it. Characters that pdflatex lacks are shown as escapes.
    """

    kind: Literal["latex"] = "latex"
    suffix: ClassVar[str] = ".tex"
    for_reading: ClassVar[bool] = True

    def render(self, table: pa.Table, *, what: str, study: str) -> bytes:
        return typeset(readable(table, what=what, study=study))


def typeset(shown: Readable) -> bytes:
    """Return a table for people."""
    caption = escape(shown.caption).replace(r"l\_inf", r"$\ell_\infty$").replace(r"l\_2", r"$\ell_2$")
    caption = caption.replace("eps = ", r"$\varepsilon$ = ").replace("95 \\%", "95\\,\\%")
    long = [any(len(row[column]) > _LONG for row in shown.rows) for column in range(len(shown.headings))]
    width = f"p{{{max(0.25, 0.5 / max(1, sum(long))):.2f}\\linewidth}}"
    kinds = (width if wide else "r" if number else "l" for wide, number in zip(long, shown.numeric, strict=True))
    lines = [
        r"% needs \usepackage{booktabs,graphicx}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        r"\resizebox{\ifdim\width>\linewidth \linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{''.join(kinds)}}}",
        r"\toprule",
        _line(shown.headings, [False] * len(long)),
        r"\midrule",
        *[_line(row, long) for row in shown.rows],
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return ("\n".join(lines) + "\n").encode()


def _line(cells: tuple[str, ...], long: list[bool]) -> str:
    return " & ".join(_wrapped(cell) if wide else escape(cell) for cell, wide in zip(cells, long, strict=True)) + r" \\"


def _wrapped(text: str) -> str:
    """Return a cell of several lines, which may be broken inside of long words, such as paths."""
    return r"\raggedright\let\\\tabularnewline " + r"\allowbreak{}".join(map(escape, _PIECE.findall(one_line(text))))


def escape(text: str) -> str:
    """Return text that LaTeX, pdflatex too, typesets as it is, on one line, in every font encoding."""
    return "{}".join("".join(map(_typeset, part)) for part in _LIGATURES.split(one_line(text)))


def _typeset(character: str) -> str:
    if character.isascii():
        return _ESCAPES.get(character, character)
    if character in _MATHS:
        return rf"\ensuremath{{{_command(_MATHS[character])}}}"
    if character in _TEXT or character in _LETTERS:
        return _TEXT.get(character) or rf"\{_LETTERS[character]}{{}}"
    letter, *accents = list(unicodedata.normalize("NFD", character))
    if letter.isascii() and letter.isalpha() and len(accents) == 1 and accents[0] in _ACCENTS:
        return rf"\{_ACCENTS[accents[0]]}{{{letter}}}"
    return _greek(character) or escape(character.encode("unicode_escape").decode())


def _command(name: str) -> str:
    return rf"\{name}" if name.isalpha() else name


def _greek(character: str) -> str | None:
    case, _, name = unicodedata.name(character, "").removeprefix("GREEK ").partition(" LETTER ")
    name = name.lower().replace("lamda", "lambda")
    name = name.capitalize() if case == "CAPITAL" else name
    return rf"\ensuremath{{\{name}}}" if case in ("SMALL", "CAPITAL") and name in _GREEK else None
