"""A comparison as a picture: what each search attains at which sparsity, and differences to the first one."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from search.results.compare.comparison import SURFACES, Comparison
from search.results.compare.ranges import BOUNDS, Attained, depth
from search.results.compare.runs import Run
from search.results.palette import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY
from search.results.plot import INK, SOFT, plain_axes, shown

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (BLUE, RED, GREEN, PURPLE, SKY, ORANGE, BLACK)
_MARKERS = "osD^vP*"
_LINES = ("-", "--", "-.", ":")


def draw(comparison: Comparison) -> Figure:
    """Return the figure: fronts with 95 % intervals or attainment bands, below them differences to the first group."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 6.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    several = len(comparison.groups) > 1
    panels = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1), squeeze=False) if several else None
    upper = figure.add_subplot() if panels is None else panels[0, 0]
    drawn: list[tuple[Artist, str]] = []
    for at, (group, runs) in enumerate(zip(comparison.attained, comparison.runs, strict=True)):
        drawn.append(_fronts(upper, comparison, at, group, runs))
    if panels is not None:
        _differences(panels[1, 0], comparison)
    _dress(comparison, upper, None if panels is None else panels[1, 0])
    handles, labels = zip(*drawn, strict=True)
    columns = 2 if len(labels) < 5 else 3
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _fronts(axes: Axes, comparison: Comparison, at: int, group: Attained, runs: Sequence[Run]) -> tuple[Artist, str]:
    """Draw a single front with its points and interval, or the attainment of several: the median, and a band."""
    colour, name = _COLOURS[at % len(_COLOURS)], shown(group.label, 32)
    style: dict[str, Any] = {"color": colour, "linewidth": 1.4, "linestyle": _LINES[at % len(_LINES)], "zorder": 4}
    grid = np.array([depth(sparsity) for sparsity in comparison.steps.grid])
    if surfaces := comparison.groups[at].surfaces:
        dense, median, sparse = (_on(comparison.steps.grid, surfaces[share]) for share in SURFACES)
        label, line = f"{name}: median of {len(runs)}, 25 to 75 % attain the band", _steps(axes, grid, median, **style)
        _band(axes, grid, sparse, dense, colour)
    else:
        low, high = _quantiles(group)
        label, line = f"{name}: front, 95 % interval", _steps(axes, grid, group.value, **style)
        _band(axes, grid, low, high, colour)
    size = 24 if len(runs) == 1 else 10
    marker = _MARKERS[at % len(_MARKERS)]
    for run in runs:
        for flagged, face in ((False, colour), (True, "white")):
            points = [network for network in run.networks if network.flagged is flagged]
            across, up = [depth(n.sparsity) for n in points], [100 * n.robust_accuracy for n in points]
            faded: dict[str, Any] = {"alpha": 0.9 if len(runs) == 1 else 0.45, "facecolors": face, "edgecolors": colour}
            axes.scatter(across, up, s=size, marker=marker, zorder=5, **faded)
    return line, label


def _differences(axes: Axes, comparison: Comparison) -> None:
    """Draw what each further group attains beyond the first."""
    first, grid = comparison.attained[0], np.array([depth(sparsity) for sparsity in comparison.steps.grid])
    axes.axhline(0, color=SOFT, linewidth=0.9)
    for at, group in enumerate(comparison.attained[1:], start=1):
        difference = replace(group, value=group.value - first.value, draws=group.draws - first.draws)
        colour = _COLOURS[at % len(_COLOURS)]
        _steps(axes, grid, difference.value, color=colour, linewidth=1.4, linestyle=_LINES[at % len(_LINES)], zorder=4)
        _band(axes, grid, *_quantiles(difference), colour)


def _quantiles(group: Attained) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(group.draws, (0.025, 0.975), axis=1)
    return low, high


def _on(grid: np.ndarray, surface: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return what a surface attains in each cell of a grid, NaN beyond its sparsest point."""
    reach = [max((y for x, y in surface if x >= end), default=np.nan) for end in grid[1:]]
    return np.array(reach)


def _steps(axes: Axes, grid: np.ndarray, cells: np.ndarray, **style: Any) -> Artist:
    return axes.stairs(100 * cells, grid, baseline=None, **style)


def _band(axes: Axes, grid: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str) -> None:
    axes.stairs(100 * high, grid, baseline=100 * low, fill=True, color=colour, alpha=0.16, linewidth=0, zorder=3)


def _dress(comparison: Comparison, upper: Axes, lower: Axes | None) -> None:
    bottom = lower or upper
    sparsities = [n.sparsity for runs in comparison.runs for run in runs for n in run.networks]
    reach = max(depth(max(sparsities, default=0.0)), depth(0.5))
    places = [bound for bound in BOUNDS[:-1] if depth(bound) <= 1.08 * reach]
    bottom.set_xticks([depth(bound) for bound in places], labels=[f"{100 * bound:g}" for bound in places])
    bottom.set_xlim(-0.02 * reach, 1.05 * reach)
    bottom.set_xlabel("sparsity (%)", color=INK)
    upper.set_ylabel("robust accuracy (%)", color=INK)
    names = ", ".join(group.label for group in comparison.groups)
    title = shown(f"{names}: robust accuracy against sparsity", 72)
    lines = textwrap.wrap(shown(comparison.measured, 280), 104)
    above = 10 + 12 * len(lines)
    upper.set_title(title, loc="left", pad=above, fontsize=12, weight="bold", color=INK, parse_math=False)
    measured = upper.text(0, 1.025, "\n".join(lines), fontsize=8.5, color=SOFT, parse_math=False)
    measured.set_transform(upper.transAxes)
    measured.set_in_layout(False)
    if lower is not None:
        lower.set_ylabel(shown(f"difference to {comparison.groups[0].label}", 28), color=INK, parse_math=False)
    for axes in (upper, bottom):
        plain_axes(axes)
