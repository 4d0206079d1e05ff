"""The charts of what was found: the front, estimates beside confirmed accuracies, security curves, the hypervolume."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from search.objectives import pareto
from search.results import palette
from search.results.plot import UNSETTLED, Axis, axes_of, spread_of, why_empty
from search.results.report import charts
from search.results.report.charts import Chart, chart, errors, hover, measure_axis, place, shown, title
from search.results.report.gather import Gathered, Kind, kind_of
from search.results.table import PointRow
from trainables.metrics import CLEAN_ACCURACY, ROBUST_ACCURACY, SPARSITY

_STYLES: dict[Kind, tuple[str, dict[str, Any]]] = {
    "dominated": ("dominated", {"symbol": "circle", "size": 6, "color": charts.FADED}),
    "screened": ("screened out", {"symbol": "line-ns-open", "size": 7, "color": charts.FADED}),
    "unsettled": (UNSETTLED, {"symbol": "cross-thin-open", "size": 7, "color": charts.GREY, "line": {"width": 1}}),
    "infeasible": ("infeasible", {"symbol": "circle-open", "size": 7, "color": charts.GREY}),
    "warned": (
        "with a warning",
        {"symbol": "triangle-up-open", "size": 8, "color": palette.RED, "line": {"width": 1.5}},
    ),
    "invalid": ("invalid", {"symbol": "x-thin-open", "size": 8, "color": palette.RED, "line": {"width": 2}}),
    "front": ("front", {"symbol": "circle", "size": 9, "color": palette.BLUE}),
    "flagged": ("front, with a warning", {"symbol": "triangle-up", "size": 11, "color": palette.RED}),
}
MOST_SECURITY_CURVES = 10
_UNITS = {"hours": 3600, "minutes": 60, "seconds": 1}


def fronts(found: Gathered) -> list[Chart]:
    """Return the front in the plane of the first two measures, and in those of further objectives."""
    first = axes_of(list(found.spec.objectives))
    others = [pair[::-1] for pair in combinations(found.spec.objectives, 2) if set(pair) != set(first)]
    return [_front(found, *map(Axis, pair)) for pair in [first, *others][:6]]


def _front(found: Gathered, x: Axis, y: Axis) -> Chart:
    data: list[dict[str, Any]] = []
    front = sorted(found.front, key=x.at)
    drawn = [*front, *(row for row in found.points if not row.on_front)]
    if (x.measure, y.measure) == (SPARSITY, ROBUST_ACCURACY) and front:
        data.append(_edge(front, x, y))
    for kind, (name, marker) in _STYLES.items():
        alike = [row for row in drawn if kind_of(row) == kind]
        if alike:
            trace = _points(alike, x, y, name, marker)
            if kind in ("front", "flagged"):
                trace["error_y"] = errors(y, alike, str(marker["color"]))
                trace["name"] += f", {spread_of(alike)}" if kind == "front" and y.interval(alike[0]) else ""
            data.append(trace)
    if y.measure == ROBUST_ACCURACY and x.measure != CLEAN_ACCURACY and front:
        marker = {"symbol": "diamond-open", "size": 7, "color": palette.ORANGE, "line": {"width": 1.5}}
        data.append(_points(front, x, Axis(CLEAN_ACCURACY), "its clean accuracy", marker))
    notes = [] if front else [_note(why_empty(found.points))]
    return chart(data, measure_axis(x, found.points), measure_axis(y, found.points), annotations=notes, height=500)


def _edge(front: Sequence[PointRow], x: Axis, y: Axis) -> dict[str, Any]:
    """Draw what is attained at a sparsity: between two points, what the sparser one has."""
    places = [(x.at(row), y.at(row)) for row in front]
    edge = [at for at, best in zip(places, pareto.nondominated(places), strict=True) if best]
    edge.insert(0, (min(0.0, edge[0][0]), edge[0][1]))
    line = {"shape": "vh", "width": 1.2, "color": palette.SKY}
    across, up = ([round(value, 6) for value in values] for values in zip(*edge, strict=True))
    return {"type": "scatter", "mode": "lines", "x": across, "y": up, "line": line, "hoverinfo": "skip", **_UNNAMED}


_UNNAMED = {"showlegend": False}


def _points(rows: Sequence[PointRow], x: Axis, y: Axis, name: str, marker: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [place(x, row) for row in rows],
        "y": [place(y, row) for row in rows],
        "customdata": [row.point for row in rows],
        "hovertext": [hover(row) for row in rows],
        "hoverinfo": "text",
        "marker": marker,
    }


def _note(text: str) -> dict[str, Any]:
    place = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False, "font": {"size": 15}}
    return {"text": text, **place}


def confirmed(found: Gathered) -> Chart | None:
    """Return what the search had estimated beside what `robustsearch confirm` measured."""
    rows = [row for row in found.confirmed if row.complete]
    if not rows:
        return None
    axis = Axis(SPARSITY)
    across = [round(axis.at(row.measured), 6) for row in rows]
    apart = 0.004 * max([*across, 1.0])
    joined: dict[str, Any] = {"type": "scatter", "mode": "lines", "line": {"color": charts.GREY, "width": 1.5}}
    gaps: dict[str, Any] = {
        "x": [at for place in across for at in (place - apart, place + apart, None)],
        "y": [v for row in rows for v in (100 * row.estimate, 100 * row.robust_accuracy, None)],
    }
    kinds: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("estimate of the search", "estimate", {"symbol": "circle-open", "color": palette.BLUE, "line": {"width": 2}}),
        ("confirmed on the test split", "robust_accuracy", {"symbol": "square", "color": palette.GREEN}),
    )
    data: list[dict[str, Any]] = [joined | gaps | {"hoverinfo": "skip"} | _UNNAMED]
    for side, (name, measure, marker) in zip((-apart, apart), kinds, strict=True):
        values, lows, highs = ([100 * getattr(row, measure + end) for row in rows] for end in ("", "_low", "_high"))
        bars = {
            "array": [round(high - value, 3) for value, high in zip(values, highs, strict=True)],
            "arrayminus": [round(value - low, 3) for value, low in zip(values, lows, strict=True)],
        }
        error = {"type": "data", "symmetric": False, **bars, "thickness": 1, "width": 3}
        texts = [
            f"<b>{shown(row.point)}</b><br>{shown(name)} "
            f"{charts.interval(*(getattr(row, measure + end) for end in ('', '_low', '_high')))}"
            f"<br>lost {100 * row.drop:.1f} points"
            for row in rows
        ]
        trace = {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [at + side for at in across],
            "y": [round(v, 3) for v in values],
        }
        named = {"customdata": [row.point for row in rows], "hovertext": texts, "hoverinfo": "text"}
        data.append({**trace, **named, "error_y": error, "marker": {"size": 9, **marker}})
    return chart(data, measure_axis(axis, found.points), title("robust accuracy (%)"))


def security(found: Gathered) -> Chart | None:
    """Return the accuracy that is left at each radius, for the confirmed front."""
    rows = [row for row in found.confirmed if row.complete and len(row.curve) > 1]
    rows = [row for row in rows if row.on_front] or rows
    if not rows:
        return None
    data = []
    for at, row in enumerate(rows[:: 1 + (len(rows) - 1) // MOST_SECURITY_CURVES]):
        colour = charts.COLOURS[at % len(charts.COLOURS)]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": shown(f"{row.point}, {100 * row.sparsity:.1f} % sparse"),
                "x": [round(point.eps, 6) for point in row.curve],
                "y": [round(100 * point.accuracy.value, 3) for point in row.curve],
                "customdata": [row.point] * len(row.curve),
                "line": {"color": colour, "dash": charts.DASHES[at % len(charts.DASHES)], "width": 2},
                "marker": {"symbol": charts.SYMBOLS[at % len(charts.SYMBOLS)], "size": 6, "color": colour},
            }
        )
    eps = float(found.spec.protocol.eps)
    line = {"type": "line", "x0": eps, "x1": eps, "y0": 0, "y1": 1, "yref": "paper", "layer": "below"}
    label = {
        "text": "ε of the search",
        "x": eps,
        "y": 1,
        "yref": "paper",
        "showarrow": False,
        "yanchor": "bottom",
        "xanchor": "left",
    }
    farthest = max(point.eps for row in rows for point in row.curve)
    x = title("radius ε of the attack") | {"range": [0, min(farthest, 4 * eps)]}
    marks = {"shapes": [line | {"line": {"color": charts.GREY, "dash": "dot"}}], "annotations": [label]}
    y = title("accuracy (%)") | {"range": [0, 100]}
    return chart(data, x, y, **marks)


def hypervolume(found: Gathered) -> list[tuple[str, Chart]]:
    """Return the hypervolume over trials, over epochs trained, and over hours of work, each with what it is over."""
    if not found.progressed:
        return []
    total = found.progressed[-1].seconds
    unit, size = next((unit, size) for unit, size in _UNITS.items() if total >= 2 * size or size == 1)
    over: dict[str, list[float]] = {
        "trials that ended": [each.ended for each in found.progressed],
        "epochs trained": [each.epochs for each in found.progressed],
        f"{unit} of work, all workers": [round(each.seconds / size, 4) for each in found.progressed],
    }
    up = [0.0, *(round(each.hypervolume, 6) for each in found.progressed)]
    texts = ["start", *(f"after trial {each.trial}: {each.hypervolume:.4f}" for each in found.progressed)]
    line = {"shape": "hv", "color": palette.BLUE, "width": 2}
    drawn = {"type": "scatter", "mode": "lines", "y": up, "hovertext": texts, "hoverinfo": "text", "line": line}
    return [
        (name, chart([drawn | {"x": [0, *across]}], title(name), title("hypervolume") | {"rangemode": "tozero"}))
        for name, across in over.items()
        if across[-1] > 0
    ]
