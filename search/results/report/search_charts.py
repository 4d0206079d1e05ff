"""The charts of how it was found: parameters, networks layer by layer, training curves, where the compute went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from search.results import palette
from search.results.curves import Curve
from search.results.exporters.base import percent_sparsity
from search.results.plot import Axis
from search.results.report import charts
from search.results.report.charts import UNSET, Chart, ParameterAxis, chart, hover, percent, shown, title
from search.results.report.gather import Gathered, Work
from search.results.table import PointRow
from trainables.store.curves import EpochValues

MOST_SLICES = 9
MOST_LINES = 400
"""How many dominated points are drawn in parallel coordinates, the last ones."""
_WORK: dict[Work, tuple[str, str, str]] = {
    "complete": ("complete trials: training", palette.BLUE, ""),
    "stopped": ("stopped early", palette.ORANGE, "/"),
    "failed": ("failed: wasted", palette.RED, "x"),
}


def importance(found: Gathered) -> Chart | None:
    """Return how much each parameter matters for reaching the front."""
    if found.importance is None:
        return None
    shares = dict(reversed(list(found.importance.shares.items())[:20]))
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [round(100 * share, 2) for share in shares.values()],
        "y": list(range(len(shares))),
        "text": [f"{100 * share:.0f} %" for share in shares.values()],
        "textposition": "auto",
        "textangle": 0,
        "hoverinfo": "skip",
        "marker": {"color": palette.BLUE},
    }
    names = [shown(path.removeprefix("recipe."), 32) for path in shares]
    x = title("importance (%)") | {"rangemode": "tozero"}
    return chart([bars], x, {"tickvals": bars["y"], "ticktext": names}, height=110 + 32 * len(shares))


def slices(found: Gathered) -> list[tuple[str, Chart]]:
    """Return the first objective over each parameter, the most important ones first, each with the parameter."""
    rows = _usable(found)
    if not rows:
        return []
    y = Axis(next(iter(found.spec.objectives)))
    known = found.importance.shares if found.importance else {}
    paths = sorted(found.space, key=lambda path: -known.get(path, 0.0))[:MOST_SLICES]
    return [(path, _slice(found, path, y, rows)) for path in paths]


def _slice(found: Gathered, path: str, y: Axis, rows: Sequence[PointRow]) -> Chart:
    axis = _parameter_axis(found, path, rows)
    kinds = (
        ([row for row in rows if not row.on_front], {"size": 5, "color": charts.FADED}),
        ([row for row in rows if row.on_front], {"size": 8, "color": palette.BLUE, "symbol": "diamond"}),
    )
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "on the front" if "symbol" in marker else "others",
            "x": [axis.at(row.own_params.get(path, UNSET)) for row in alike],
            "y": [charts.place(y, row) for row in alike],
            "customdata": [row.point for row in alike],
            "hovertext": [f"<b>{shown(row.point)}</b> {100 * row.robust_accuracy:.1f} % robust" for row in alike],
            "hoverinfo": "text",
            "marker": marker,
            "showlegend": False,
        }
        for alike, marker in kinds
        if alike
    ]
    return chart(data, axis.dressed(), title(y.title) | ({"type": "log"} if y.counts else {}))


def _usable(found: Gathered) -> list[PointRow]:
    return [row for row in found.points if row.status != "invalid" and row.tier != "screened"]


def _parameter_axis(found: Gathered, path: str, rows: Sequence[PointRow]) -> ParameterAxis:
    return ParameterAxis(path, found.space[path], [row.own_params.get(path, UNSET) for row in rows])


def parallel(found: Gathered) -> Chart | None:
    """Return parallel coordinates: a line for each point through its parameters and its objectives."""
    rows = _usable(found)
    if not rows or not found.space:
        return None
    axes = [_parameter_axis(found, path, rows) for path in found.space][:24]
    measures = [_Measured(Axis(name), rows) for name in found.spec.objectives]
    front = {row.point for row in found.front}
    others = [row for row in rows if row.point not in front][-MOST_LINES:]
    drawn = (
        (others, {"width": 0.6, "color": "rgba(140,149,159,0.35)"}, "others"),
        ([row for row in rows if row.point in front], {"width": 1.6, "color": palette.BLUE}, "on the front"),
    )
    data = [_lines(alike, axes, measures, line, name) for alike, line, name in drawn if alike]
    names = [axis.name for axis in axes] + [measure.name for measure in measures]
    ends = [axis.ends() for axis in axes] + [measure.ends for measure in measures]
    x = {
        "tickvals": list(range(len(names))),
        "ticktext": [shown(name, 26) for name in names],
        "range": [-0.3, len(names) - 0.7],
        "gridcolor": charts.GREY,
        "side": "bottom",
        "tickangle": -30,
    }
    font = {"showarrow": False, "font": {"size": 11}}
    notes = [
        {"x": at, "y": end, "text": shown(text, 14), "yanchor": anchor, **font}
        for at, pair in enumerate(ends)
        for end, text, anchor in ((-0.03, pair[0], "top"), (1.03, pair[1], "bottom"))
    ]
    y = {"visible": False, "range": [-0.16, 1.14]}
    return chart(data, x, y, annotations=notes, meta={"axes": len(names)})


class _Measured:
    """An objective as an axis of parallel coordinates."""

    def __init__(self, axis: Axis, rows: Sequence[PointRow]) -> None:
        self.axis, self.name = axis, axis.title
        known = [value for row in rows if (value := getattr(row, axis.measure)) is not None]
        self.low: float = min(known, default=0.0)
        self.high: float = max(known, default=1.0)
        scaled = [percent_sparsity(v) if axis.measure == "sparsity" else f"{100 * v:.0f}" for v in self._fractions()]
        self.ends = (scaled[0], scaled[1]) if scaled else (f"{self.low:g}", f"{self.high:g}")

    def _fractions(self) -> list[float]:
        return [] if self.high > 1 else [self.low, self.high]

    def share(self, row: PointRow) -> float | None:
        value = getattr(row, self.axis.measure)
        if value is None or self.high <= self.low:
            return None if value is None else 0.5
        return float((value - self.low) / (self.high - self.low))


def _lines(
    rows: Sequence[PointRow], axes: Sequence[ParameterAxis], measures: Sequence[_Measured], line: Any, name: str
) -> dict[str, Any]:
    x: list[float | None] = []
    y: list[float | None] = []
    points: list[str] = []
    texts: list[str] = []
    for row in rows:
        shares = [axis.share(row.own_params.get(axis.path, UNSET)) for axis in axes]
        shares += [measure.share(row) for measure in measures]
        places = [(at, share) for at, share in enumerate(shares) if share is not None]
        x += [*(at for at, _ in places), None]
        y += [*(round(share, 4) for _, share in places), None]
        points += [row.point] * (len(places) + 1)
        texts += [hover(row) if name == "on the front" else shown(row.point)] * (len(places) + 1)
    mode = {"mode": "lines+markers", "marker": {"size": 4}} if name == "on the front" else {"mode": "lines"}
    trace = {"type": "scatter", "x": x, "y": y, "name": name, "line": line, "customdata": points, **mode}
    return {**trace, "hovertext": texts, "hoverinfo": "text"}


def layers(found: Gathered) -> Chart | None:
    """Return what share of its weights each layer of each network of the front has left."""
    if not found.networks:
        return None
    rows = [network.point for network in found.networks]
    names = list(dict.fromkeys(layer.name for network in found.networks for layer in network.layers))
    kept = [{layer.name: layer for layer in network.layers} for network in found.networks]
    z = [
        [round(100 * layer.nonzero / layer.size, 2) if (layer := of.get(name)) and layer.size else None for of in kept]
        for name in names
    ]
    texts = [
        [
            f"<b>{shown(row.point)}</b>, {percent_sparsity(row.sparsity)} % sparse<br>{shown(name)}: "
            f"{of[name].nonzero} of {of[name].size} weights"
            if name in of
            else ""
            for row, of in zip(rows, kept, strict=True)
        ]
        for name in names
    ]
    cells = {
        "type": "heatmap",
        "z": z,
        "x": list(range(len(kept))),
        "y": list(range(len(names))),
        "hovertext": texts,
        "hoverinfo": "text",
        "colorscale": "Cividis",
        "zmin": 0,
        "zmax": 100,
        "xgap": 1,
        "ygap": 1,
        "texttemplate": "%{z:.3~g}" if len(kept) * len(names) <= 400 and len(kept) <= 16 else "",
        "customdata": [[row.point for row in rows] for _ in names],
        "colorbar": {"title": {"text": "% left"}, "thickness": 12},
    }
    labels = [
        f"{shown(network.point.point, 10)}<br>{percent_sparsity(network.point.sparsity)} %"
        for network in found.networks
    ]
    x = title("network of the front, its sparsity") | {"tickvals": cells["x"], "ticktext": labels}
    y = {"tickvals": cells["y"], "ticktext": [shown(name, 30) for name in names], "autorange": "reversed"}
    return chart([cells], x, y, height=max(260, 150 + 26 * len(names)))


def curves(found: Gathered) -> list[tuple[int, Chart]]:
    """Return the training curves of the trials on the front, the most robust first, each with its trial."""
    return [(trial, _curve(parts)) for trial, parts in found.curves.items()]


def best_epoch(curve: Curve) -> EpochValues | None:
    """Return the first epoch of the best held-back robust accuracy; None where a training measured fewer than two."""
    known = [epoch for epoch in curve.epochs if epoch.robust_accuracy is not None]
    return max(known, key=lambda epoch: epoch.robust_accuracy or 0.0) if len(known) > 1 else None


_ACCURACIES = (
    ("accuracy", "trained on (attacked)", charts.GREY, "dot"),
    ("clean_accuracy", "held back, clean", palette.ORANGE, "dash"),
    ("robust_accuracy", "held back, attacked", palette.BLUE, "solid"),
)
_LOSSES = (
    ("loss", "loss, trained on", palette.PURPLE, "solid"),
    ("validation_loss", "loss, held back", palette.PURPLE, "dash"),
)


def _curve(parts: Sequence[Curve]) -> Chart:
    """Draw the trainings of a trial one after the other, with accuracies on the left and losses on the right."""
    data = [
        *_values(parts, _ACCURACIES, percent),
        *_best_epochs(parts),
        *(line | {"yaxis": "y2"} for line in _values(parts, _LOSSES, _five_digits)),
        *_partials(parts),
    ]
    separator = {"type": "line", "y0": 0, "y1": 1, "yref": "paper", "line": {"color": charts.FADED, "width": 1}}
    right = title("loss") | {
        "overlaying": "y",
        "side": "right",
        "showgrid": False,
        "rangemode": "tozero",
        "tickmode": "auto",
        "nticks": 6,
    }
    left = title("accuracy (%)") | {"range": [0, 100]}
    shapes = [separator | {"x0": part.before + 0.5, "x1": part.before + 0.5} for part in parts if part.before]
    return chart(data, title("epoch of the trial"), left, yaxis2=right, shapes=shapes)


def _values(
    parts: Sequence[Curve],
    lines: Sequence[tuple[str, str, str, str]],
    written: Callable[[Sequence[float | None]], list[float | None]],
) -> list[dict[str, Any]]:
    """Draw those of the lines (measure, name, colour, dash) that some epoch has a value of."""
    epochs = [part.epoch_of_trial(epoch.epoch) for part in parts for epoch in part.epochs]
    drawn = []
    for measure, name, colour, dash in lines:
        values = [getattr(epoch, measure) for part in parts for epoch in part.epochs]
        if any(value is not None for value in values):
            drawn.append(_line(epochs, written(values), name, colour, dash))
    return drawn


def _five_digits(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else float(f"{value:.5g}") for value in values]


def _best_epochs(parts: Sequence[Curve]) -> list[dict[str, Any]]:
    best = [(part, epoch) for part in parts if (epoch := best_epoch(part)) is not None]
    epochs = [part.epoch_of_trial(epoch.epoch) for part, epoch in best]
    marker = {"symbol": "triangle-up", "size": 11, "color": palette.BLUE}
    return _markers(epochs, [epoch.robust_accuracy for _, epoch in best], "its best epoch", marker)


def _partials(parts: Sequence[Curve]) -> list[dict[str, Any]]:
    epochs = [part.epoch_of_trial(partial.epoch) for part in parts for partial in part.partials]
    values = [partial.measured.robust_accuracy for part in parts for partial in part.partials]
    return _markers(epochs, values, "partial measurement", {"symbol": "star", "size": 9, "color": palette.GREEN})


def _markers(
    epochs: Sequence[int], values: Sequence[float | None], name: str, marker: dict[str, Any]
) -> list[dict[str, Any]]:
    places = {"x": list(epochs), "y": percent(values)}
    return [{"type": "scatter", "mode": "markers", "name": name, "marker": marker, **places}] if epochs else []


def _line(x: Sequence[int], y: Sequence[float | None], name: str, colour: str, dash: str) -> dict[str, Any]:
    line = {"color": colour, "dash": dash, "width": 2}
    mode = "lines+markers" if len(x) < 3 else "lines"
    return {"type": "scatter", "mode": mode, "name": name, "x": list(x), "y": list(y), "line": line}


def compute(found: Gathered) -> Chart | None:
    """Return where the epochs and the hours went."""
    if not found.costs:
        return None
    shared = sum(cost.shared for cost in found.costs.values())
    epochs = sum(cost.epochs for cost in found.costs.values()) + shared
    seconds = sum(cost.seconds for cost in found.costs.values())
    bars = [
        (name, colour, pattern, cost.epochs, cost.seconds - (cost.measuring or 0.0))
        for state, (name, colour, pattern) in _WORK.items()
        if (cost := found.costs.get(state)) is not None
    ]
    if measuring := sum(cost.measuring or 0.0 for cost in found.costs.values()):
        bars.insert(1, ("complete trials: measuring, loading, saving", palette.SKY, "-", 0, measuring))
    if shared:
        bars.append(("shared: trained once, used again", palette.GREEN, ".", shared, 0.0))
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": ["work", "epochs"],
            "x": [round(100 * took / (seconds or 1), 2), round(100 * trained / (epochs or 1), 2)],
            "hovertext": [f"{name}: {took / 3600:.2f} h of work", f"{name}: {trained} epochs"],
            "hoverinfo": "text",
            "marker": {"color": colour, "pattern": {"shape": pattern, "size": 6, "solidity": 0.25}},
        }
        for name, colour, pattern, trained, took in bars
    ]
    x = title("share (%)") | {"range": [0, 100]}
    return chart(data, x, {"type": "category"}, barmode="stack", height=230)
