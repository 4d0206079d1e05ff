"""Inputs that nobody wrote: the shipped files, with bytes, values, sizes and depths mutated."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

from hypothesis import strategies as st

from search.study.file import builtin_names, builtin_text

VALUES = [
    *(
        "",
        "~",
        "true",
        "'yes'",
        "-1",
        "0",
        "1e5",
        "1e-300",
        "1e308",
        "1e999",
        ".nan",
        "-.inf",
        "１２",
        "0x7f",
        "8/255",
        "8/0",
    ),
    *(
        "9" * 400,
        "9" * 20,
        str(2**63),
        str(2**64),
        str(-(2**63)),
        "1" + "0" * 300 + "TB",
        "1e-9",
        "0.999999999999",
        "1e30",
    ),
    *('"\\UFFFFFFFF"', '"\\ud800"', '"\\0"', '"\\x1b[31m"', "*x", "&x 1", "!!int 3", "!!python/object:os.system {}"),
    *(
        "[]",
        "{}",
        "[[[[[[]]]]]]",
        "{kind: imp}",
        "{kind: {kind: x}}",
        "[1, a, null]",
        "x" * 300,
        "é",
        "🦀",
        "\u202e",
        "../../x",
    ),
    *(
        "{kind: int, low: 0, high: 1e30}",
        "{kind: int, low: 0, high: 1000000000000000000}",
        "{kind: float, low: -1e308, high: 1e308}",
    ),
    *(
        "{kind: float, low: 0, high: 1, step: 1e-300}",
        "{kind: categorical, choices: [[]]}",
        "{low: 0, high: 1, when: {a: 1}}",
    ),
    *(
        "imp",
        "three_stage",
        "wang2020",
        "moasha",
        "random",
        "linf",
        "dense_trained",
        "none",
        "/dev/zero",
        "/proc/self/mem",
        "C:\\x",
    ),
]
NOISE = [
    "\t",
    "\0",
    "\r",
    "\x07",
    "\u2028",
    "- ",
    ": ",
    "#",
    "{",
    "}",
    "[",
    "]",
    "'",
    '"',
    "|",
    ">",
    "%",
    "@",
    "`",
    "---\n",
    "<<: ",
    "? ",
]
_VALUE = re.compile(r"(?<=: )[^\s,{}\[\]#][^,{}\[\]\n#]*")

studies = st.sampled_from(builtin_names()).map(builtin_text)
clusters = st.sampled_from(
    sorted(
        entry.read_text(encoding="utf-8")
        for entry in resources.files("clusters").iterdir()
        if entry.name.endswith(".yaml")
    )
)
values = st.sampled_from(VALUES) | st.floats().map(repr) | st.integers().map(str) | st.text(max_size=20)


@st.composite
def mutated(draw: Any, texts: st.SearchStrategy[str]) -> bytes:
    """Draw one of `texts` with one to four changes."""
    text = draw(texts)
    for _ in range(draw(st.integers(1, 4))):
        text = draw(st.sampled_from(CHANGES))(draw, text)
    content: bytes = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0 and content:
        at = draw(st.integers(0, len(content) - 1))
        content = content[:at] + bytes([draw(st.integers(0, 255))]) + content[at + draw(st.integers(0, 2)) :]
    return content


def _value(draw: Any, text: str) -> str:
    """Replace a value."""
    found = list(_VALUE.finditer(text))
    if not found:
        return text + str(draw(values))
    match = draw(st.sampled_from(found))
    return text[: match.start()] + draw(values) + text[match.end() :]


def _noise(draw: Any, text: str) -> str:
    """Insert a character that means something."""
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.sampled_from(NOISE) | st.characters()) + text[at:]


def _cut(draw: Any, text: str) -> str:
    """Remove a part."""
    at = draw(st.integers(0, len(text)))
    return text[:at] + text[at + draw(st.integers(1, 200)) :]


def _line(draw: Any, text: str) -> str:
    """Repeat a line, move it, or indent it."""
    lines = text.split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    moved = draw(st.sampled_from([lines[at] + "\n" + lines[at], "  " + lines[at], lines[at].strip(), ""]))
    to = draw(st.integers(0, len(lines)))
    return "\n".join([*lines[:to], moved, *lines[to:]])


def _size(draw: Any, text: str) -> str:
    """Make a file long, wide or deep."""
    number = draw(st.sampled_from([10, 300, 3_000, 60_000]))
    unit = draw(
        st.sampled_from(
            ["k{}: 1\n", "# {}\n", "[", "{{a: ", "- ", " ", "x", "\n", "  recipe.p{}: {{kind: int, low: 0, high: 3}}\n"]
        )
    )
    block = "".join(unit.format(n) for n in range(number))
    return text + block if draw(st.booleans()) else text.replace("\nspace:\n", f"\nspace:\n{block}", 1)


CHANGES = [_value, _value, _value, _noise, _cut, _line, _size]
