"""The chart of a study beside published results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search.results import palette
from search.results.confirmed import ConfirmedRow
from search.results.plot import Axis
from search.results.references.base import Row
from search.results.references.tables import method
from search.results.report.charts import Chart, chart, interval, measure_axis, shown, title
from search.results.report.gather import Gathered
from search.results.table import PointRow
from trainables.metrics import ROBUST_ACCURACY, SPARSITY


def field(found: Gathered) -> Chart | None:
    """Return the rows of the reference with the confirmed points, which compare, and the estimates, which do not."""
    if found.reference is None or not found.reference.rows:
        return None
    known, rows = found.reference.reference, found.reference.rows
    confirmed = [row for row in found.confirmed if row.complete]
    hollow = {"symbol": "circle-open", "size": 8, "color": palette.BLUE, "line": {"width": 2}}
    kinds: tuple[tuple[str, Sequence[PointRow | ConfirmedRow | Row], dict[str, Any]], ...] = (
        (f"{known.name} ({known.split}, {known.attack})", rows, {"symbol": "triangle-up", "color": palette.PURPLE}),
        ("front: estimates (validation)", found.front, hollow),
        ("confirmed (test)", confirmed, {"symbol": "square", "color": palette.GREEN}),
    )
    data = [_trace(name, which, {"size": 9, **marker}) for name, which, marker in kinds if which]
    return chart(data, measure_axis(Axis(SPARSITY), [*found.points, *rows]), title("robust accuracy (%)"))


def _trace(name: str, rows: Sequence[PointRow | ConfirmedRow | Row], marker: dict[str, Any]) -> dict[str, Any]:
    axis = Axis(SPARSITY)
    bounds = [[100 * getattr(row, ROBUST_ACCURACY + end) for row in rows] for end in ("", "_low", "_high")]
    gaps = [[round(abs(value - bound), 3) for value, bound in zip(bounds[0], each, strict=True)] for each in bounds[1:]]
    own = {} if isinstance(rows[0], Row) else {"customdata": [row.point for row in rows if not isinstance(row, Row)]}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [round(axis.at(row), 6) for row in rows],
        "y": [round(value, 3) for value in bounds[0]],
        "error_y": {"type": "data", "symmetric": False, "array": gaps[1], "arrayminus": gaps[0], "thickness": 1},
        "hovertext": [_said(row) for row in rows],
        "hoverinfo": "text",
        "marker": marker,
        **own,
    }


def _said(row: PointRow | ConfirmedRow | Row) -> str:
    name = method(row) if isinstance(row, Row) else row.point
    accuracies = (
        f"{kind} {interval(*(getattr(row, f'{kind}_accuracy{end}') for end in ('', '_low', '_high')))}"
        for kind in ("robust", "clean")
    )
    return "<br>".join((f"<b>{shown(name)}</b>  {100 * row.sparsity:.4g} % sparse", *accuracies))
