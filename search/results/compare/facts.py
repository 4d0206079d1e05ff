"""A comparison as plain data, as a table for programs, and as tables for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from search.results.compare.comparison import Comparison, GroupResult, Pair
from search.results.compare.ranges import Range
from search.results.compare.resamples import Interval
from search.results.exporters.base import Readable, percent_sparsity

if TYPE_CHECKING:
    import pyarrow as pa


def plain(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON-able data."""
    return {
        "confirmed": comparison.confirmed,
        "objectives": list(comparison.objectives),
        "measured": comparison.measured,
        "notes": list(comparison.notes),
        "groups": [asdict(group) for group in comparison.groups],
        "pairs": [asdict(pair) for pair in comparison.pairs],
    }


def table(comparison: Comparison) -> pa.Table:
    """Return the ranges of all pairs, a row each."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    names = ("one_accuracy", "other_accuracy", "difference", "difference_low", "difference_high")
    fields = [("one", text), ("other", text), ("sparsity_low", number), ("sparsity_high", number)]
    schema = pa.schema([*fields, *((name, number) for name in names), ("ahead", text)])
    rows = []
    for pair in comparison.pairs:
        for found in pair.ranges:
            known = found.difference
            three = (known.value, known.low, known.high) if known else (None, None, None)
            cells = (pair.one, pair.other, found.low, found.high, found.one, found.other, *three, found.ahead)
            rows.append(dict(zip(schema.names, cells, strict=True)))
    return pa.Table.from_pylist(rows, schema=schema)


def readables(comparison: Comparison) -> Iterator[Readable]:
    """Yield a table of the groups, then one for each pair of them."""
    headings = ("search", "runs", "points", "hypervolume", "sd")
    rows = tuple(_group_row(group) for group in comparison.groups)
    caption = "Hypervolumes, means over the runs, with 95 % bootstrap intervals in brackets."
    yield Readable(headings, (False, True, True, False, True), rows, " ".join((comparison.measured, caption)))
    for pair in comparison.pairs:
        yield _pair_table(pair)


def _group_row(group: GroupResult) -> tuple[str, ...]:
    points = [len(run.front) for run in group.runs]
    several = str(points[0]) if len(set(points)) == 1 else f"{min(points)}-{max(points)}"
    spread = "" if group.sd is None else f"{group.sd:.4f}"
    return group.label, str(len(group.runs)), several, _interval(group.hypervolume, 1, 4), spread


def _pair_table(pair: Pair) -> Readable:
    headings = ("sparsity (%)", f"{pair.one} (%)", f"{pair.other} (%)", "difference (points)", "ahead")
    rows = tuple(_range_row(found) for found in pair.ranges)
    facts = [f"{pair.one} minus {pair.other}: hypervolume {_interval(pair.hypervolume, 1, 4, '+')}"]
    if pair.covers is not None and pair.covered is not None:
        facts.append(f"{pair.one} covers {100 * pair.covers:.0f} % of the points of {pair.other}")
        facts.append(f"{pair.other} covers {100 * pair.covered:.0f} % of those of {pair.one}")
        facts.append(f"additive epsilon {pair.epsilon:.4f} and {pair.epsilon_reverse:.4f}")
    return Readable(headings, (False, True, True, False, False), rows, "; ".join(facts) + ".")


def _range_row(found: Range) -> tuple[str, ...]:
    one, other = ("none" if value is None else f"{100 * value:.1f}" for value in (found.one, found.other))
    span = f"{percent_sparsity(found.low)} to {percent_sparsity(found.high)}"
    difference = "" if found.difference is None else _interval(found.difference, 100, 1, "+")
    return span, one, other, difference, found.ahead or "not told apart"


def _interval(found: Interval, scale: float, digits: int, sign: str = "") -> str:
    low, high = (f"{scale * value:{sign}.{digits}f}" for value in (found.low, found.high))
    return f"{scale * found.value:{sign}.{digits}f} [{low}, {high}]"
