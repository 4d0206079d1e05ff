"""What the charts of a report share: colours that the colour-blind tell apart, markers, axes, escaped texts.

A chart is a figure of plotly as plain data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from search.files.messages import printable
from search.results.exporters.base import mean_over_seeds, number, one_line, percent_sparsity
from search.results.palette import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, YELLOW
from search.results.plot import Axis, sparsity_ticks
from search.results.references.base import Row
from search.results.table import PointRow
from search.space.parameters import Parameter
from trainables.metrics import SPARSITY

Chart = dict[str, Any]

GREY = "#8c959f"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
FADED = "rgba(140,149,159,0.55)"


def chart(data: Sequence[Mapping[str, Any]], x: Mapping[str, Any], y: Mapping[str, Any], **layout: Any) -> Chart:
    """Return a figure of traces and axes."""
    return {"data": [dict(trace) for trace in data], "layout": {"xaxis": dict(x), "yaxis": dict(y), **layout}}


def title(text: str) -> dict[str, Any]:
    """Return the title of an axis."""
    return {"title": {"text": shown(text, 60)}}


def shown(text: object, length: int = 120) -> str:
    """Return one line that plotly, which reads markup and links in texts, shows as it is."""
    line = printable(one_line(str(text)))
    line = line if len(line) <= length else f"{line[: length - 1]}…"
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def hover(row: PointRow) -> str:
    """Return what a point says under the mouse: what it is, its numbers with intervals, how it was trained."""
    lines = [
        f"<b>{shown(row.point)}</b>  {percent_sparsity(row.sparsity)} % sparse, {row.nonzero} weights",
        f"robust {accuracy(row, 'robust')}",
        f"clean {accuracy(row, 'clean')}, n = {row.examples}",
    ]
    if row.status != "ok" or row.flags:
        lines.append(shown(f"{row.status}: {', '.join(row.flags)}", 90))
    lines += [shown(f"{path.removeprefix('recipe.')} = {number(value)}", 60) for path, value in row.own_params.items()]
    return "<br>".join(lines[:14])


def accuracy(row: PointRow, name: str) -> str:
    """Write the robust or clean accuracy of a point in percent: with its interval, or a mean over replicates."""
    if row.configuration is not None:
        return mean_over_seeds(vars(row), f"{name}_accuracy")
    return interval(*(getattr(row, f"{name}_accuracy{end}") for end in ("", "_low", "_high")))


def interval(value: float, low: float, high: float) -> str:
    """Write an accuracy with its interval, in percent."""
    return f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def percent(values: Sequence[float | None]) -> list[float | None]:
    """Return fractions in percent."""
    return [None if value is None else round(100 * value, 3) for value in values]


def measure_axis(axis: Axis, rows: Sequence[PointRow | Row]) -> dict[str, Any]:
    """Return the axis of a measure: sparsity by the logarithm of the density, counts by logarithm."""
    finite = [value for value in map(axis.at, rows) if math.isfinite(value)]
    dressed = title(axis.title)
    if axis.measure == SPARSITY:
        reach = max([*finite, 1.0])
        ticks = sparsity_ticks(reach)
        dressed |= {"tickvals": list(ticks), "ticktext": list(ticks.values()), "range": [-0.06 * reach, 1.08 * reach]}
    elif axis.counts:
        dressed |= {"type": "log"}
    elif not finite:
        dressed |= {"range": [0, 100]}
    return dressed


def place(axis: Axis, row: PointRow) -> float | None:
    """Return where a point lies on an axis; None where its measure is unknown."""
    value = axis.at(row)
    return round(value, 6) if math.isfinite(value) else None


def errors(axis: Axis, rows: Sequence[PointRow], colour: str) -> dict[str, Any]:
    """Return the 95 % intervals of points; none where the measure has none."""
    found = [axis.interval(row) for row in rows]
    if not rows or any(each is None for each in found):
        return {"visible": False}
    below, above = zip(*(each for each in found if each is not None), strict=True)
    sides = {"array": [round(v, 3) for v in above], "arrayminus": [round(v, 3) for v in below]}
    return {"type": "data", "symmetric": False, **sides, "thickness": 1, "width": 3, "color": colour}


UNSET: Any = object()
"""The value of a parameter that a trial does not have."""


class ParameterAxis:
    """Places of a parameter's values: numbers as they are, all else by rank: first the choices, in their order."""

    def __init__(self, path: str, parameter: Parameter, values: Sequence[Any]) -> None:
        """Take the values that occur."""
        self.path = path
        known = [value for value in values if value is not UNSET]
        bounds = [value for end in ("low", "high") if (value := getattr(parameter, end, None)) is not None]
        listed = [*getattr(parameter, "choices", ()), *known]
        self.numeric = bool(bounds) and all(_is_number(value) for value in (*bounds, *known))
        self.log = self.numeric and bool(getattr(parameter, "log", False)) and min(*bounds, *known) > 0
        self.choices = [] if self.numeric else list(dict.fromkeys(map(_text, listed)))
        ends = [float(value) for value in (*bounds, *known)] if self.numeric else [0.0, len(self.choices) - 1.0]
        self.low: float = min(ends)
        self.high: float = max(ends)

    @property
    def name(self) -> str:
        """The path without `recipe.`, under which most parameters are."""
        return self.path.removeprefix("recipe.")

    def at(self, value: Any) -> float | None:
        """Return where a value lies; None where it is not set."""
        if value is UNSET:
            return None
        return float(value) if self.numeric else float(self.choices.index(_text(value)))

    def share(self, value: Any) -> float | None:
        """Return where a value lies between the lowest, 0, and the highest, 1; None where it is not set."""
        if (at := self.at(value)) is None:
            return None
        if self.high <= self.low:
            return 0.5
        if self.log:
            return math.log(at / self.low) / math.log(self.high / self.low)
        return (at - self.low) / (self.high - self.low)

    def ends(self) -> tuple[str, str]:
        """Return the lowest and the highest value in words."""
        texts = (number(self.low), number(self.high)) if self.numeric else (self.choices[0], self.choices[-1])
        return shown(texts[0], 14), shown(texts[1], 14)

    def dressed(self) -> dict[str, Any]:
        """Return the axis."""
        found = title(self.name)
        if not self.numeric:
            ticks = {"tickvals": list(range(len(self.choices))), "ticktext": [shown(c, 16) for c in self.choices]}
            return found | ticks | {"range": [-0.5, len(self.choices) - 0.5]}
        return found | ({"type": "log"} if self.log else {})


def _text(value: Any) -> str:
    return "null" if value is None else number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
