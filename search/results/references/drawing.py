"""The rows of a reference in a plot: beside confirmed points, which compare, and estimates, which do not."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trainables.metrics import CLEAN_ACCURACY, ROBUST_ACCURACY, SPARSITY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from search.results.confirmed import ConfirmedRow
    from search.results.references.base import Row
    from search.results.references.match import Match

MEASURES = (ROBUST_ACCURACY, CLEAN_ACCURACY, SPARSITY)
"""What a row of a reference has."""
_REFERENCE = "#7b3294"
_CONFIRMED = "#1a7f37"
_LINE = 130

At = Callable[[Any], float]


def rows_for(found: Match | None, measures: Sequence[str]) -> tuple[Row, ...]:
    """Return the rows that can be drawn by two measures."""
    return found.rows if found is not None and set(measures) <= set(MEASURES) else ()


def add(
    axes: Axes, found: Match, confirmed: Sequence[ConfirmedRow], x: At, y: At, errors: Callable[[Any], Any]
) -> None:
    """Draw rows as triangles, filters apart from weights, and confirmed points as squares with their intervals."""
    for structure, marker, said in (("unstructured", "^", ""), ("filter", "v", ", filters")):
        rows = [row for row in found.rows if row.structure == structure]
        style: dict[str, Any] = {"color": _REFERENCE, "ms": 4.5, "markeredgewidth": 0, "alpha": 0.85, "zorder": 5}
        if rows:
            label = f"{found.reference.name}{said} (test, {found.reference.attack})"
            axes.plot([x(row) for row in rows], [y(row) for row in rows], marker, label=label, **style)
    compared = [row for row in confirmed if row.complete]
    if compared:
        bars = [errors(row) for row in compared]
        axes.errorbar(
            [x(row) for row in compared],
            [y(row) for row in compared],
            yerr=list(zip(*bars, strict=True)) if all(bar is not None for bar in bars) else None,
            fmt="s",
            ms=5,
            capsize=2.5,
            elinewidth=1,
            color=_CONFIRMED,
            label="confirmed (test)",
            zorder=6,
        )


def note(found: Match) -> str:
    """Return source and remarks, in lines for below the plot."""
    known = found.reference
    authors, _, rest = known.citation.partition(": ")
    source = f"{known.name}: {authors}, {', '.join(rest.split(', ')[-2:])}; {known.url}"
    return "\n".join(line for text in (source, *found.remarks) for line in textwrap.wrap(text, _LINE))


def label(figure: Figure, axes: Axes, rows: Sequence[Row], x: At, y: At) -> None:
    """Write the method beside the rows that no other of their sparsity and network beats in both accuracies."""
    pixel = figure.dpi / 72
    taken: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda each: -each.robust_accuracy):
        peers = [each for each in rows if (each.sparsity, each.model) == (row.sparsity, row.model)]
        if any(_beats(other, row) for other in peers):
            continue
        across, up = axes.transData.transform((x(row), y(row)))
        if any(abs(across - left) < 40 * pixel and abs(up - low) < 7 * pixel for left, low in taken):
            continue
        taken.append((across, up))
        style: dict[str, Any] = {"fontsize": 6, "color": _REFERENCE, "ha": "right", "va": "center"}
        axes.annotate(row.method, (x(row), y(row)), xytext=(-4, 0), textcoords="offset points", **style)


def _beats(one: Row, other: Row) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in (ROBUST_ACCURACY, CLEAN_ACCURACY)]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)
