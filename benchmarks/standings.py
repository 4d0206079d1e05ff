"""The result of a comparison: medians over seeds, their intervals, and ratios, including runs that never arrived."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

SHARES = (0.9, 0.95, 0.98)
MAIN = 0.95
DRAWS = 4000
FEWEST = 6
"""Runs of which the median has an interval of 95 %: of five, even the lowest and the highest miss it more often."""
REFERENCE = "ours"
GOALS = {False: 0.5, True: 0.8}
"""The most epochs that ours should need to 95 and 98 %, as a share of those of the best rival as it ships, and of the
best that shares trainings as ours does; the first with an interval below 1."""


def arrival(run: dict[str, Any], marks: str, goal: float, unit: str = "epochs") -> float:
    """Return after how many epochs (or units of time) a run had the hypervolume `goal`; infinite where it never had."""
    return next((float(mark[unit]) for mark in run[marks] if mark["hypervolume"] >= goal), math.inf)


def median(values: Sequence[float]) -> float:
    """Return the median; of an even number the mean of the two in the middle, infinite where one is."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def medians(values: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Return the medians of `DRAWS` resamples."""
    ordered = np.sort(rng.choice(np.asarray(values), (DRAWS, len(values))), axis=1)
    middle = len(values) // 2
    return ordered[:, middle] if len(values) % 2 else (ordered[:, middle - 1] + ordered[:, middle]) / 2


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % quantiles, as draws that are there: one may be infinite."""
    low, high = np.quantile(draws, (0.025, 0.975), method="nearest")
    return float(low), float(high)


def grouped(runs: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the runs by method, in the order in which methods come first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        found.setdefault(run["method"], []).append(run)
    return found


def lines(title: str, runs: list[dict[str, Any]], ideal: float, marks: str) -> Iterator[str]:
    """Write the standings of all methods on one table with one number of workers."""
    by_method = grouped(runs)
    yield ""
    yield title
    head = "".join(f"{f'epochs to {share:.0%}':>24}{'x ours':>22}" for share in SHARES)
    yield f"  {'':<26}{'runs':>4}{head}{f'arrived at {MAIN:.0%}':>16}{'time':>7}{'trials':>8}{'s/run':>7}"
    for method, own in by_method.items():
        cells = []
        for share in SHARES:
            reached = [arrival(run, marks, share * ideal) for run in own]
            between = _between(interval(medians(reached, np.random.default_rng(0))), len(own))
            cells.append(f"{f'{_number(median(reached))} ({between})':>24}")
            ours = [arrival(run, marks, share * ideal) for run in by_method.get(REFERENCE, [])]
            cells.append(f"{'1':>22}" if method == REFERENCE else _ratio(reached, ours))
        at = {unit: [arrival(run, marks, MAIN * ideal, unit) for run in own] for unit in ("time", "trials")}
        arrived = f"{sum(map(math.isfinite, at['time']))} of {len(own)}"
        seconds = sum(run["seconds"] for run in own) / len(own)
        when = f"{arrived:>16}{_number(median(at['time'])):>7}{_number(median(at['trials'])):>8}"
        yield f"  {method:<26}{len(own):>4}{''.join(cells)}{when}{seconds:>7.1f}"


def goals(runs: Sequence[dict[str, Any]], ideal: float, marks: str, rivals: Mapping[str, bool]) -> Iterator[str]:
    """Tell whether ours meets its goals against `rivals`, of which each shares trainings or not."""
    by_method = grouped(runs)
    own = by_method.get(REFERENCE, [])
    for (shared, most), share in itertools.product(GOALS.items(), (0.95, 0.98)):
        reached = {
            name: [arrival(run, marks, share * ideal) for run in by_method[name]]
            for name in rivals
            if rivals[name] is shared and name in by_method
        }
        if own and reached:
            best = min(reached, key=lambda name: median(reached[name]))
            ours = [arrival(run, marks, share * ideal) for run in own]
            judged = _judged(ours, reached[best], most, below_one=not shared)
            kind = "with sharing" if shared else "as it ships"
            yield f"  ours to {share:.0%}, by the best rival {kind} ({best}): {judged}"


def _judged(ours: list[float], theirs: list[float], most: float, *, below_one: bool) -> str:
    """Tell whether ours needs at most this share of their epochs, in the median, perhaps with an interval below 1."""
    if min(len(ours), len(theirs)) < FEWEST:
        return f"not judged by fewer than {FEWEST} runs"
    middle = _share(median(ours), median(theirs))
    draws = [medians(sample, np.random.default_rng(seed)) for seed, sample in enumerate((theirs, ours))]
    low, high = interval(np.array([_share(mine, other) for other, mine in zip(*draws, strict=True)]))
    verdict = "met" if middle <= most and (high < 1 or not below_one) else "missed"
    numbers = f"{_number(middle, 2)} ({_number(low, 2)}..{_number(high, 2)})"
    return f"{numbers}, {len(ours)} and {len(theirs)} runs; goal {most:g} {verdict}"


def _share(own: float, other: float) -> float:
    """Divide epochs; where neither arrived, nobody was sooner."""
    return own / other if math.isfinite(own) or math.isfinite(other) else 1.0


def _ratio(reached: list[float], reference: list[float]) -> str:
    """Write how many times the epochs of ours a method needs."""
    if not reference or not math.isfinite(median(reference)):
        return " " * 22
    draws = [medians(sample, np.random.default_rng(seed)) for seed, sample in enumerate((reached, reference))]
    ends = interval(np.array([_share(own, other) for own, other in zip(*draws, strict=True)]))
    between = _between(ends, min(len(reached), len(reference)), 1)
    return f"{f'{_number(median(reached) / median(reference), 1)} ({between})':>22}"


def _number(value: float, digits: int = 0) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "never"


def _between(ends: tuple[float, float], runs: int, digits: int = 0) -> str:
    return f"{_number(ends[0], digits)}..{_number(ends[1], digits)}" if runs >= FEWEST else f"{runs} runs"
