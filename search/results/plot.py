"""The front as a picture: robust accuracy against sparsity, or the study's first two objectives."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.objectives import COUNTS, pareto
from search.results.exporters.output import OutputError, write_output
from search.results.references import drawing
from trainables.metrics import CLEAN_ACCURACY, ROBUST_ACCURACY, SPARSITY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from search.results.confirmed import ConfirmedRow
    from search.results.references.base import Row
    from search.results.references.match import Match
    from search.results.study import Study
    from search.results.table import PointRow
    from trainables.store.records import Point

FORMATS = ("png", "pdf", "svg")

_FRONT = "#1b5e9c"
_CLEAN = "#d1731c"
_GREY = "#a9adb3"
_INVALID = "#b3261e"
INK = "#24292f"
SOFT = "#57606a"
_SPARSITIES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
_TITLES = {
    ROBUST_ACCURACY: "robust accuracy (%)",
    CLEAN_ACCURACY: "clean accuracy (%)",
    SPARSITY: "sparsity (%)",
    "nonzero": "nonzero weights",
    "macs_effective": "effective multiply-accumulates",
}
_NORMS = {"linf": "ℓ∞", "l2": "ℓ2"}
UNSETTLED = "seeds missing"
"""What points are called that are not compared: some of their seeds have not ended, or were stopped early."""


def plot(study: Study, output: Path, reference: Match | None = None) -> Path:
    """Draw the study's points to `output`; the suffix gives the format: png, pdf or svg.

    Rows of a reference are drawn with the confirmed points, which compare with them, and the estimates hollow.

    Raises:
        OutputError: another suffix, or the output cannot be written there.
        StorageError: the disk is full or failing.
    """
    kind = output.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        allowed = ", ".join(f".{name}" for name in FORMATS)
        raise OutputError(f"cannot tell from the name {output} what to draw; it must end in one of {allowed}")
    return write_output(picture(draw(study, reference), kind), output, records=study.records.storage.local)


def picture(figure: Figure, kind: str) -> bytes:
    """Return a figure as png, pdf or svg: the same bytes for the same figure."""
    from matplotlib import rc_context

    content = io.BytesIO()
    dates = {"svg": "Date", "pdf": "CreationDate"}
    with rc_context({"svg.hashsalt": "robustsearch"}):
        figure.savefig(content, format=kind, dpi=200, metadata={dates[kind]: None} if kind in dates else None)
    return content.getvalue()


def draw(study: Study, reference: Match | None = None) -> Figure:
    """Return the figure: the front with Wilson intervals, and dominated, infeasible and invalid points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    x, y = (Axis(name) for name in axes_of(list(study.spec.objectives)))
    points, front = study.configurations(), study.front()
    rows = drawing.rows_for(reference, (x.measure, y.measure))
    figure = Figure(figsize=(7.2, 5.8 if rows else 4.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _others(axes, points, x, y)
    _front(axes, sorted(front, key=lambda row: x.at(row)), x, y, hollow=bool(rows))
    if reference is not None and rows:
        drawing.add(axes, reference, study.confirmed(), x.at, y.at, y.interval)
    x.dress(axes.xaxis, [*points, *rows])
    y.dress(axes.yaxis, [*points, *rows])
    _dress(axes, study, points, f"{y.noun} against {x.noun}")
    if not front:
        axes.text(
            0.5, 0.5, why_empty(points), transform=axes.transAxes, ha="center", va="center", color=INK, fontsize=13
        )
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        order = sorted(range(len(labels)), key=lambda i: ("front" not in labels[i], "clean" not in labels[i]))
        shown = [handles[i] for i in order], [labels[i] for i in order]
        noted: dict[str, Any] = {"ncols": 3 if any(label.startswith("warned") for label in labels) else 5}
        if reference is not None and rows:
            noted = {"ncols": 3, "title": drawing.note(reference), "title_fontsize": 6.5, "alignment": "left"}
        figure.legend(*shown, loc="outside lower center", frameon=False, fontsize=8.5, columnspacing=1.6, **noted)
    _label_front(figure, axes, points, front, x, y)
    if reference is not None:
        drawing.label(figure, axes, rows, x.at, y.at)
    return figure


def why_empty(points: Sequence[PointRow]) -> str:
    """Return why there is no front."""
    if not points:
        return "no point measured so far"
    return "no feasible point so far" if any(row.settled for row in points) else "no point with all of its seeds so far"


def axes_of(objectives: Sequence[str]) -> tuple[str, str]:
    """Choose the measures for x and y: sparsity and robust accuracy where they are objectives, else the first two."""
    if {ROBUST_ACCURACY, SPARSITY} <= set(objectives):
        return SPARSITY, ROBUST_ACCURACY
    if len(objectives) > 1:
        return objectives[1], objectives[0]
    return (SPARSITY if objectives[0] != SPARSITY else ROBUST_ACCURACY), objectives[0]


@dataclass(frozen=True)
class Axis:
    """How a measure is drawn: sparsity by the logarithm of the density, fractions in percent, counts by logarithm."""

    measure: str

    @property
    def title(self) -> str:
        """The measure in words, with its unit."""
        return _TITLES.get(self.measure, self.measure)

    @property
    def noun(self) -> str:
        """The measure in words."""
        return _TITLES.get(self.measure, self.measure).removesuffix(" (%)")

    @property
    def counts(self) -> bool:
        """Whether the measure is a number of things; the others are fractions."""
        return self.measure in COUNTS

    def at(self, row: PointRow | ConfirmedRow | Point | Row) -> float:
        """Return where a point lies; NaN where the measure is unknown."""
        value = _mean(row, self.measure)
        if value is None:
            return math.nan
        if self.measure == SPARSITY:
            return -math.log10(max(1 - value, 0.5 / row.prunable))
        return max(float(value), 0.5) if self.counts else 100 * value

    def interval(self, row: PointRow | ConfirmedRow) -> tuple[float, float] | None:
        """Return how far the Wilson interval reaches below and above the point; None where there is none.

        Of means over replicates it is the standard deviation.
        """
        if self.counts or self.measure == SPARSITY:
            return None
        if getattr(row, "configuration", None) is not None:
            deviation = 100 * (getattr(row, f"{self.measure}_sd") or 0.0)
            return deviation, deviation
        value, low, high = (100 * getattr(row, self.measure + suffix) for suffix in ("", "_low", "_high"))
        return max(0.0, value - low), max(0.0, high - value)

    def dress(self, axis: Any, rows: Sequence[PointRow | Row]) -> None:
        """Set limits, ticks and label."""
        axis.set_label_text(_TITLES.get(self.measure, self.measure), color=INK)
        finite = [value for value in map(self.at, rows) if math.isfinite(value)]
        if self.measure == SPARSITY:
            reach = max([*finite, 1.0])
            ticks = sparsity_ticks(reach)
            axis.set_ticks(list(ticks), labels=list(ticks.values()))
            _limits(axis, -0.04 * reach, 1.08 * reach)
        elif self.counts:
            _logarithmic(axis)
        elif not finite:
            _limits(axis, 0.0, 100.0)


def _mean(row: Any, measure: str) -> Any:
    """Return a measure of a row; of a row with replicates, the mean over them."""
    return getattr(getattr(row, "judged", row), measure)


def spread_of(rows: Sequence[PointRow]) -> str:
    """Return what the bars of points on the front are."""
    if all(row.configuration is None for row in rows):
        return "95 % interval"
    return f"standard deviation over {' or '.join(map(str, sorted({row.seeds for row in rows})))} seeds"


def sparsity_ticks(reach: float) -> dict[float, str]:
    """Return the labels, in percent, of an axis of sparsity that ends a little beyond `reach`, by their places."""
    places = {-math.log10(1 - sparsity): f"{100 * sparsity:g}" for sparsity in _SPARSITIES}
    return {place: label for place, label in places.items() if place <= reach * 1.08}


def _limits(axis: Any, low: float, high: float) -> None:
    getattr(axis.axes, f"set_{axis.axis_name}lim")(low, high)


def _logarithmic(axis: Any) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(EngFormatter(sep=""))


def _others(axes: Axes, points: Sequence[PointRow], x: Axis, y: Axis) -> None:
    """Draw the points that are not on the front, each kind with its own marker."""
    invalid = [row for row in points if row.status == "invalid"]
    valid = [row for row in points if row.status != "invalid"]
    infeasible = [row for row in valid if row.settled and not row.feasible]
    beaten = [row for row in valid if row.settled and row.feasible and not row.on_front]
    unsettled = [row for row in valid if not row.settled]
    kinds: tuple[tuple[list[PointRow], str, dict[str, Any]], ...] = (
        (beaten, "dominated", {"marker": "o", "s": 16, "color": _GREY, "linewidths": 0}),
        (infeasible, "infeasible", {"marker": "o", "s": 20, "facecolors": "none", "edgecolors": _GREY}),
        (unsettled, UNSETTLED, {"marker": "+", "s": 24, "color": _GREY, "linewidths": 1.0}),
        (invalid, "invalid", {"marker": "x", "s": 24, "color": _INVALID, "linewidths": 1.2}),
    )
    for rows, label, style in kinds:
        if rows:
            axes.scatter([x.at(row) for row in rows], [y.at(row) for row in rows], label=label, zorder=2, **style)


def _front(axes: Axes, front: Sequence[PointRow], x: Axis, y: Axis, *, hollow: bool) -> None:
    if not front:
        return
    across, up = [x.at(row) for row in front], [y.at(row) for row in front]
    style: dict[str, Any] = {"color": _FRONT, "zorder": 4}
    if (x.measure, y.measure) == (SPARSITY, ROBUST_ACCURACY):
        # Between two points, what is attained at that sparsity is what the sparser one has. A third
        # objective puts points on the front that these two alone would not: the line leaves them out.
        places = list(zip(across, up, strict=True))
        edge = [place for place, best in zip(places, pareto.nondominated(places), strict=True) if best]
        edge.insert(0, (min(0.0, across[0]), edge[0][1]))
        axes.plot(*zip(*edge, strict=True), drawstyle="steps-pre", linewidth=1.1, alpha=0.55, **style)
    intervals = [y.interval(row) for row in front]
    known = [interval for interval in intervals if interval is not None]
    errors = list(zip(*known, strict=True)) if len(known) == len(front) else None
    label = ("front, estimates" if hollow else "front") + (f", {spread_of(front)}" if errors else "")
    filled: dict[str, Any] = {"markerfacecolor": "white"} if hollow else {}
    axes.errorbar(across, up, yerr=errors, fmt="o", ms=5.5, capsize=2.5, elinewidth=1, label=label, **filled, **style)
    _ring_warned(axes, front, x, y)
    if y.measure == ROBUST_ACCURACY and x.measure != CLEAN_ACCURACY:
        clean = Axis(CLEAN_ACCURACY)
        axes.plot(
            across,
            [clean.at(row) for row in front],
            "D",
            ms=4,
            markerfacecolor="white",
            markeredgewidth=1.2,
            color=_CLEAN,
            label="its clean accuracy",
            zorder=3,
        )


def _ring_warned(axes: Axes, front: Sequence[PointRow], x: Axis, y: Axis) -> None:
    if warned := [row for row in front if row.status == "warn"]:
        style: dict[str, Any] = {"facecolors": "none", "edgecolors": _INVALID, "linewidths": 1.3, "zorder": 5}
        spots = [[axis.at(row) for row in warned] for axis in (x, y)]
        axes.scatter(spots[0], spots[1], s=110, label=f"warned: {_named(warned)}", **style)


def _named(rows: Sequence[PointRow]) -> str:
    """Return the flags of rows, the first few of them."""
    flags = list(dict.fromkeys(flag for row in rows for flag in row.flags))
    return ", ".join(flags[:2]) + (f" and {len(flags) - 2} more" if len(flags) > 2 else "")


def _dress(axes: Axes, study: Study, points: Sequence[PointRow], title: str) -> None:
    heading = shown(f"{study.name}: {title}", 72)
    axes.set_title(heading, loc="left", pad=22, fontsize=12, weight="bold", color=INK, parse_math=False)
    protocol = axes.text(0, 1.025, shown(_protocol(points), 118), fontsize=8.5, color=SOFT, parse_math=False)
    protocol.set_transform(axes.transAxes)
    # The title above it makes its room; a long line must not squeeze the axes.
    protocol.set_in_layout(False)
    plain_axes(axes)


def plain_axes(axes: Axes) -> None:
    """Give axes a light grid, small ticks, and no frame above and at the right."""
    axes.grid(color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=3, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#8c959f")


def _protocol(points: Sequence[PointRow]) -> str:
    """Return in one line how the numbers were measured."""
    if not points:
        return ""

    def all_of(name: str) -> str:
        return ", ".join(str(value) for value in sorted({getattr(row, name) for row in points}, key=str))

    norm = _NORMS.get(all_of("norm"), all_of("norm"))
    return (
        f"{all_of('model')} on {all_of('data')} · {all_of('attack')}, {norm}, ε = {all_of('eps_text')} · "
        f"{all_of('examples')} {all_of('split')} images · {all_of('recipe')}"
    )


def _label_front(
    figure: Figure, axes: Axes, points: Sequence[PointRow], front: Sequence[PointRow], x: Axis, y: Axis
) -> None:
    """Write the points' ids beside the front where they overlap neither markers, intervals nor other ids."""
    figure.draw_without_rendering()
    pixel = figure.dpi / 72
    taken: list[_Box] = []
    for row in points:
        taken.append(_around(axes, x.at(row), y.at(row), 3 * pixel))
    for row in front:
        below, above = y.interval(row) or (0.0, 0.0)
        left, bottom, right, _ = _around(axes, x.at(row), y.at(row) - below, 3 * pixel)
        taken.append((left, bottom, right, _around(axes, x.at(row), y.at(row) + above, 3 * pixel)[3]))
        if y.measure == ROBUST_ACCURACY:
            taken.append(_around(axes, x.at(row), Axis(CLEAN_ACCURACY).at(row), 4 * pixel))
    window = axes.get_window_extent()
    for row in front:
        text = shown(row.point)
        at = axes.transData.transform((x.at(row), y.at(row)))
        width, height = 4.6 * len(text) * pixel, 8 * pixel
        for dx, dy, side in ((5, 3, "left"), (-5, -10, "right")):
            left = at[0] + dx * pixel - (width if side == "right" else 0)
            box = (left, at[1] + dy * pixel, left + width, at[1] + dy * pixel + height)
            inside = window.x0 < box[0] and box[2] < window.x1 and window.y0 < box[1] and box[3] < window.y1
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                style: dict[str, Any] = {"fontsize": 7, "color": _FRONT, "ha": side, "parse_math": False}
                axes.annotate(text, (x.at(row), y.at(row)), xytext=(dx, dy), textcoords="offset points", **style)
                break


_Box = tuple[float, float, float, float]
"""Left, bottom, right, top in pixels."""


def _around(axes: Axes, x: float, y: float, radius: float) -> _Box:
    left, bottom = axes.transData.transform((x, y))
    return left - radius, bottom - radius, left + radius, bottom + radius


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def shown(text: str, length: int = 20) -> str:
    """Return one line of at most `length` characters, all of which the font has."""
    text = "".join(c if c.isprintable() and (ord(c) < 0x250 or c in "εℓ∞") else "?" for c in text)
    return text if len(text) <= length else f"{text[: length - 3]}..."
