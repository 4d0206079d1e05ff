"""The points of a study in a terminal: its front, what is confirmed, and a reference beside them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.cli.console import Out, percent, print_table, settings, table
from search.files.messages import printable
from search.objectives.values import COUNTS
from search.results.exporters.base import (
    REFERENCE,
    caption,
    front_change,
    mean_over_seeds,
    number,
    over_seeds,
    percent_sparsity,
    rank,
    readable,
)
from search.results.status import NEAREST, said
from search.store import catalogue

if TYPE_CHECKING:
    from search.results.references.match import Match
    from search.results.study import Answer, Study
    from search.results.table import PointRow

POINT_HEADINGS = ("point", "sparsity %", "robust %", "clean %", "parameters")


def _points(console: Console, study: Study, rows: Iterable[PointRow]) -> Table:
    space = study.spec.space
    counts = [measure for measure in study.spec.objectives if measure in COUNTS]
    rows = list(rows)
    remarks = remark_cells(rows)
    cells = [
        (*measured(row), *(number(getattr(row, count)) for count in counts), *remark, settings(row.own_params, space))
        for row, remark in zip(rows, remarks, strict=True)
    ]
    flags = ("flags",) if any(remarks) else ()
    headings = (*POINT_HEADINGS[:-1], *counts, *flags, POINT_HEADINGS[-1])
    return table(console, headings, cells, right=range(1, 4 + len(counts)))


def remark_cells(rows: Sequence[PointRow]) -> list[tuple[str, ...]]:
    """Return the cell with status and flags of each row; no row has one where none has a flag."""
    return [(row.remark,) if any(other.remark for other in rows) else () for row in rows]


def measured(row: PointRow) -> tuple[str, ...]:
    if row.configuration is not None:
        accuracies = [mean_over_seeds(vars(row), f"{name}_accuracy") for name in ("robust", "clean")]
    else:
        accuracies = [
            percent(row.robust_accuracy, row.robust_accuracy_low, row.robust_accuracy_high),
            percent(row.clean_accuracy),
        ]
    return (row.point, percent_sparsity(row.judged.sparsity), *accuracies)


def show_front(study: Study) -> None:
    """Print the front as a table, and below it how it was measured; an empty one as the points that come nearest."""
    console = Out(sys.stdout)
    front = study.front()
    if front:
        print_table(console, _points(console, study, front))
        console.print()
        if (knee := study.knee()) is not None:
            console.print(Text(f"knee: {knee.point}"))
        print_answer(console, study.answer())
        rows = study.table("front").to_pylist()
        console.print(Text(printable(caption(rows, what="front", study=study.name)), style="dim"))
        return
    print_answer(console, study.answer())
    nearest = study.infeasible(NEAREST)
    if not nearest:
        waiting = study.spec.seeds and study.points()
        what = "configuration has ended with all of its seeds" if waiting else "valid point has been measured"
        console.print(f"{study.name}: no {what} yet.")
        return
    wanted = ", ".join(f"{measure} {bound}" for measure, bound in study.spec.constraints.items())
    console.print(f"{study.name}: no point satisfies {wanted}. Those that violate it least:")
    print_table(console, _points(console, study, nearest))


def show_confirmed(study: Study, examples: int | str | None = None) -> None:
    """Print the confirmed points as a table: what fell from estimate to result, and what left the front."""
    console = Out(sys.stdout)
    found = study.confirmed(examples)
    if not found:
        named = catalogue.arguments(study.records.storage)
        console.print(
            f"{study.name}: nothing is confirmed; `robustsearch confirm {named}` measures it on the test split"
        )
        return
    rows = study.table("confirmed", examples=examples).to_pylist()
    seeds = any(row["seeds"] > 1 for row in rows)
    headings = [
        "point",
        "sparsity %",
        "robust %",
        *(["over seeds %"] if seeds else []),
        "clean %",
        "estimate %",
        "fell",
    ]
    headings += ["rank", "front", "p", "parameters"]
    cells = [
        _confirmed(row, seeds, settings(own.own_params, study.spec.space)) for row, own in zip(rows, found, strict=True)
    ]
    print_table(console, table(console, headings, cells, right=range(1, headings.index("front"))))
    console.print()
    left = [row["point"] for row in rows if front_change(row) == "left"]
    if left:
        console.print(Text(f"left the front: {', '.join(left)}"))
    console.print(Text(printable(caption(rows, what="confirmed", study=study.name)), style="dim"))


def _confirmed(row: dict[str, Any], seeds: bool, params: str) -> tuple[str, ...]:
    p = row["p_nondominated"]
    return (
        row["point"],
        percent_sparsity(row["sparsity"]),
        percent(row["robust_accuracy"], row["robust_accuracy_low"], row["robust_accuracy_high"]),
        *([over_seeds(row)] if seeds else []),
        percent(row["clean_accuracy"]),
        percent(row["estimate"]),
        f"{100 * row['drop']:.1f}",
        rank(row),
        front_change(row),
        "" if p is None else f"{p:.2f}",
        params,
    )


def show_reference(study: Study, found: Match) -> None:
    """Print the rows of a reference as a table, and below it their source and what must be said beside them."""
    from search.results.references import tables

    console = Out(sys.stdout)
    shown = readable(tables.table(found, study.table("front")), what=REFERENCE, study=study.name)
    console.print()
    right = [index for index, numeric in enumerate(shown.numeric) if numeric]
    print_table(console, table(console, shown.headings, shown.rows, right=right))
    console.print()
    console.print(Text(printable(shown.caption), style="dim"))


def print_answer(console: Console, answer: Answer | None) -> None:
    if answer is not None:
        console.print(Text(printable(said(answer))))
