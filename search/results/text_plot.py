"""The front as text, for a terminal: braille dots where it can show them, else ASCII."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from search.objectives import pareto
from search.objectives.replicates import MeanPoint
from search.results.plot import Axis, axes_of
from trainables.core.measures import wilson
from trainables.metrics import ROBUST_ACCURACY, SPARSITY
from trainables.store.records import Point

_SPARSITIES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The dots of a braille character, by row and column."""
_LABEL = 7


@dataclass
class _Canvas:
    """Characters, each with 2 by 4 dots in braille or one in ASCII; the origin is at the bottom left."""

    width: int
    height: int
    ascii: bool
    dots: dict[tuple[int, int], int] = field(default_factory=dict)
    marks: dict[tuple[int, int], str] = field(default_factory=dict)

    def cell(self, across: float, up: float) -> tuple[int, int]:
        """Return the character at fractions of width and height."""
        return min(self.width - 1, int(across * self.width)), min(self.height - 1, int(up * self.height))

    def dot(self, across: float, up: float, plain: str) -> None:
        """Set a dot; `plain` stands for it in ASCII."""
        at = self.cell(across, up)
        if self.ascii:
            self.marks.setdefault(at, plain)
            return
        column = min(2 * self.width - 1, int(across * self.width * 2)) % 2
        row = 3 - min(4 * self.height - 1, int(up * self.height * 4)) % 4
        self.dots[at] = self.dots.get(at, 0) | _BITS[row][column]

    def line(self, start: tuple[float, float], end: tuple[float, float], plain: str) -> None:
        """Draw a straight line of dots."""
        steps = 1 + int(max(abs(end[0] - start[0]) * 2 * self.width, abs(end[1] - start[1]) * 4 * self.height))
        for step in range(steps + 1):
            share = step / steps
            self.dot(start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]), plain)

    def rows(self) -> list[str]:
        """Return the lines, the uppermost first."""
        return ["".join(self._character(x, y) for x in range(self.width)) for y in reversed(range(self.height))]

    def _character(self, x: int, y: int) -> str:
        if (x, y) in self.marks:
            return self.marks[x, y]
        return chr(0x2800 + self.dots[x, y]) if (x, y) in self.dots else " "


@dataclass(frozen=True)
class _Shown:
    """A point with its coordinates in the units of the axes."""

    across: float
    up: float
    point: Point

    @property
    def at(self) -> tuple[float, float]:
        return self.across, self.up

    @property
    def flagged(self) -> bool:
        return self.point.status != "ok"


Place = Callable[[float, float], tuple[float, float]]
"""Maps coordinates to fractions of the width and height of a canvas."""


def front_plot(
    points: Sequence[Point], objectives: Sequence[str], *, width: int, height: int, ascii: bool = False
) -> list[str]:
    """Draw a front in at most `width` columns and `height` lines; none where there is no room or nothing to draw.

    Robust accuracies have their Wilson intervals, those of replicates a standard deviation on either side, and points
    with a flag an exclamation mark. Sparsity is drawn by the logarithm of the density, as in a picture.
    """
    x, y = (Axis(measure) for measure in axes_of(list(objectives)))
    shown = [_Shown(x.at(point), y.at(point), point) for point in points]
    shown = sorted((each for each in shown if math.isfinite(sum(each.at))), key=lambda each: each.at)
    inner, lines = width - _LABEL - 1, height - 3
    if not shown or inner < 16 or lines < 3:
        return []
    left, right = _limits([each.across for each in shown], zero=x.measure == SPARSITY)
    bands = [_band(y, each.point, each.up) for each in shown]
    low, high = _limits([value for band in bands for value in band])
    canvas = _Canvas(inner, lines, ascii)

    def place(across: float, up: float) -> tuple[float, float]:
        return (across - left) / (right - left), (up - low) / (high - low)

    if (x.measure, y.measure) == (SPARSITY, ROBUST_ACCURACY):
        _draw_steps(canvas, [each.at for each in shown], place)
    for each, (below, above) in zip(shown, bands, strict=True):
        if above > below:
            canvas.line(place(each.across, below), place(each.across, above), "|")
    for each in sorted(shown, key=lambda each: each.flagged):  # Flags are never covered.
        canvas.marks[canvas.cell(*place(*each.at))] = "!" if each.flagged else "o" if ascii else "●"
    flagged = "   ! has a flag" if any(each.flagged for each in shown) else ""
    return [
        f"{y.title} against {x.title}{flagged}"[:width],
        *_labelled(canvas, low, high),
        *_axis(x, left, right, inner, ascii),
    ]


def _draw_steps(canvas: _Canvas, at: Sequence[tuple[float, float]], place: Place) -> None:
    """Draw the attained accuracy: between two points of the front, it is that of the sparser one."""
    edge = [each for each, best in zip(at, pareto.nondominated(list(at)), strict=True) if best]
    for before, after in itertools.pairwise(edge):
        canvas.line(place(before[0], after[1]), place(*after), ".")


def _labelled(canvas: _Canvas, low: float, high: float) -> list[str]:
    """Return the lines of a canvas behind the vertical axis, which is labelled at the top, middle and bottom."""
    last, side = canvas.height - 1, "|" if canvas.ascii else "│"
    middle = last // 2
    labels = {0: high, last: low, middle: high - (high - low) * (middle + 0.5) / canvas.height}
    texts = (_number(labels[at]) if at in labels else "" for at in range(canvas.height))
    return [f"{text:>{_LABEL}}{side}{row}".rstrip() for text, row in zip(texts, canvas.rows(), strict=True)]


def _band(axis: Axis, point: Point, value: float) -> tuple[float, float]:
    """Return the interval of an accuracy in percent, for replicates a standard deviation, or the value alone."""
    if isinstance(point, MeanPoint):
        deviation = 100 * (getattr(point, f"{axis.measure}_sd", None) or 0.0)
        return value - deviation, value + deviation
    correct = {"robust_accuracy": point.robust_correct, "clean_accuracy": point.clean_correct}.get(axis.measure)
    if correct is None:
        return value, value
    below, above = wilson(correct, point.examples)
    return 100 * below, 100 * above


def _limits(values: Sequence[float], *, zero: bool = False) -> tuple[float, float]:
    """Return the limits of an axis, from 0 with `zero`, with some room around the values."""
    low, high = (0.0 if zero else min(values)), max(values)
    room = 0.04 * (high - low) or max(0.5, 0.04 * abs(high))
    return (low if zero else low - room), high + room


def _axis(axis: Axis, left: float, right: float, width: int, ascii: bool) -> list[str]:
    """Return the line below the plot and its labels."""
    if axis.measure == SPARSITY:
        ticks = [(-math.log10(1 - s), f"{100 * s:g}") for s in _SPARSITIES]
    else:
        ticks = [(value, _number(value)) for value in (left, (left + right) / 2, right)]
    corner, line, tick = ("+", "-", "+") if ascii else ("└", "─", "┴")
    rule, text = [line] * width, [" "] * (width + _LABEL + 1)
    free = 0
    for value, label in ticks:
        at = round((value - left) / (right - left) * (width - 1))
        start = min(_LABEL + 1 + at - len(label) // 2, len(text) - len(label))
        if 0 <= at < width and start >= free:
            rule[at] = tick
            text[start : start + len(label)] = label
            free = start + len(label) + 1
    return [f"{'':>{_LABEL}}{corner}{''.join(rule)}", "".join(text).rstrip()]


def _number(value: float) -> str:
    """Write a label in at most six characters."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.4g}{unit}"
    return f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}"
