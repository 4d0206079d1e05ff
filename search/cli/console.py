"""What the commands print: tables in a terminal, aligned plain text elsewhere, and never a control character."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.files.messages import printable
from search.results.exporters.base import number

if TYPE_CHECKING:
    from search.files.findings import Finding
    from search.results.exporters.base import Readable
    from search.space.parameters import Parameter

_UNLIMITED = 100_000
_LONG_NAME = 28
_LEAST_TEXT = 12


class Out(Console):
    """A console on a stream: styled and wrapped in a terminal, plain and unwrapped elsewhere."""

    def __init__(self, stream: IO[str]) -> None:
        # Without a colour system rich writes no escape at all; NO_COLOR alone would leave it bold and dim.
        plain = bool(os.environ.get("NO_COLOR"))
        system: Literal["auto"] | None = None if plain else "auto"
        super().__init__(file=stream, highlight=False, markup=False, emoji=False, color_system=system)
        if not self.is_terminal:
            self.width = _UNLIMITED

    def on_broken_pipe(self) -> None:
        """Leave the end of a pipe to the caller; rich would exit with 1."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def table(console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> Table:
    """Build a table. The first column and those in `right`, which hold numbers, are not wrapped where that can be.

    They are never cut, which would make another number of one: in a terminal too narrow for them, lines run over.
    """
    style = box.SIMPLE_HEAD if console.is_terminal else None
    table = Table(box=style, show_edge=False, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    cells = [[printable(cell) for cell in row] for row in rows]
    names_fit = all(len(row[0]) <= _LONG_NAME for row in cells)
    for index, heading in enumerate(headings):
        numeric = index in right
        whole = numeric or (index == 0 and names_fit)
        longest = max(cell_len(cell) for cell in (heading, *(row[index] for row in cells)))
        table.add_column(
            heading,
            justify="right" if numeric else "left",
            no_wrap=whole,
            overflow="fold",
            min_width=longest if whole else min(longest, _LEAST_TEXT),
        )
    for row in cells:
        table.add_row(*map(Text, row))
    return table


def print_table(console: Console, table: Table) -> None:
    if console.is_terminal:
        console.print(table, crop=False)
        return
    with console.capture() as captured:
        console.print(table)
    # Plain text ends where its content does.
    print(*(line.rstrip() for line in captured.get().splitlines()), sep="\n", file=console.file)


def print_facts(console: Console, facts: Mapping[str, str]) -> None:
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, fact in facts.items():
        grid.add_row(Text(name, style="dim"), Text(printable(fact)))
    print_table(console, grid)


def percent(value: float, low: float | None = None, high: float | None = None) -> str:
    """Write a fraction in percent, with its interval where it has one."""
    text = f"{100 * value:.1f}"
    return text if low is None or high is None else f"{text} [{100 * low:.1f}, {100 * high:.1f}]"


def settings(params: Mapping[str, Any], space: Mapping[str, Parameter]) -> str:
    """Write parameters shortly.

    `recipe.` is what nearly all of them begin with, and a kind is what it is a kind of. What has but one value
    in the space is left out.
    """
    shown = [path for path in params if path not in space or len(space[path].extremes()) > 1]
    names = {path: _short(path) for path in shown}
    return " ".join(f"{names[path]}={number(params[path])}" for path in shown)


def _short(path: str) -> str:
    return "recipe" if path == "recipe.kind" else path.removeprefix("recipe.").removesuffix(".kind")


def show_facts(facts: Mapping[str, str]) -> None:
    """Print names and what they stand for, aligned."""
    print_facts(Out(sys.stdout), facts)


def show_tables(tables: Iterable[Readable]) -> None:
    """Print tables, each with its caption below."""
    console = Out(sys.stdout)
    for at, shown in enumerate(tables):
        if at:
            console.print()
        right = [column for column, numeric in enumerate(shown.numeric) if numeric]
        print_table(console, table(console, shown.headings, shown.rows, right=right))
        console.print(Text(printable(shown.caption), style="dim"))


_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def show_findings(findings: Iterable[Finding]) -> None:
    """Print what doctor found, a line each."""
    console = Out(sys.stdout)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in findings:
        level = Text(finding.level, style=_STYLES[finding.level])
        grid.add_row(level, Text(finding.subject), Text(printable(finding.message)))
    print_table(console, grid)
