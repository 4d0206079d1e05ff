"""What runs of `glue.py` say: hypervolume over time, times to shares of the lower final, goals, agreement."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import standings
from scipy import stats
from simulator import Front

SHARES = (0.5, 0.9, 0.95, 1.0)
MOMENTS = (10, 20, 30, 45, 60, 90, 120, 180, 240, 300)
"""Seconds after which the hypervolume is printed."""
GOAL = 6.0
"""How many times sooner ours should have the lower final, by the mean over at least `SEEDS` seeds."""
SEEDS = 5
HEAD_START = 30.0
"""Seconds after which ours should never be behind."""
POINT = 1.0
"""By how many points of robust accuracy networks of both sides may differ."""

Line = dict[str, Any]
Curve = list[tuple[float, int, float]]


def rise(line: Line) -> Curve:
    """Return the seconds, the epochs trained so far, and the hypervolume after each measured network."""
    front, epochs, found = Front(), 0, []
    for at, robust, sparsity, new in line["points"]:
        epochs += new
        front.add([robust, sparsity])
        found.append((at, epochs, front.hypervolume))
    return found


def until(curve: Curve, volume: float) -> tuple[float, float]:
    """Return the seconds and the epochs until so much hypervolume; infinite where it was never reached."""
    return next(((at, epochs) for at, epochs, found in curve if found >= volume - 1e-12), (math.inf, math.inf))


def volume(curve: Curve, at: float) -> float:
    """Return the hypervolume at a second."""
    return max((found for when, _, found in curve if when <= at), default=0.0)


def behind(mine: Curve, theirs: Curve) -> float:
    """Return the last second, after the head start, at which ours had less hypervolume; 0 where there is none."""
    moments = sorted({HEAD_START, *(at for at, *_ in (*mine, *theirs) if at >= HEAD_START)})
    last = [at for at in moments if volume(theirs, at) > volume(mine, at) + 1e-12]
    return next((later for later in moments if last and later > last[-1]), last[-1]) if last else 0.0


def half_width(variance: float, count: int) -> float:
    """Return half of Student's interval of 95 % for the mean of `count` values of this variance."""
    return float(stats.t.ppf(0.975, count - 1)) * math.sqrt(variance / count)


def spread(values: list[float]) -> str:
    """Write the median with the lowest and highest."""
    return f"{standings.median(values):.2f} ({min(values):.2f}..{max(values):.2f})"


def between(values: list[float]) -> str:
    """Write the median with the lowest and highest, and the geometric mean with Student's interval over seeds."""
    text = spread(values)
    if len(values) < 3 or not all(map(math.isfinite, values)):
        return text
    logs = np.log(values)
    mean, half = float(logs.mean()), half_width(float(logs.var(ddof=1)), len(logs))
    return f"{text}, mean {math.exp(mean):.2f} [{math.exp(mean - half):.2f}, {math.exp(mean + half):.2f}]"


def report(lines: list[Line], workers: int) -> Iterator[str]:
    """Write the tables of a study."""
    by_seed: dict[int, dict[str, Line]] = {}
    for line in lines:
        by_seed.setdefault(line["seed"], {})[line["side"]] = line
    pairs = {seed: sides for seed, sides in sorted(by_seed.items()) if {"ours", "glue"} <= sides.keys()}
    names = dict.fromkeys(side for sides in pairs.values() for side in sides)
    for seed, sides in pairs.items():
        first = min(sides, key=lambda side: sides[side]["finished"])
        yield f"  seed {seed}, {first} first"
        for side, line in sides.items():
            curve = rise(line)
            window = curve[-1][0] - line["first"]
            busy = line["own"] / workers / window
            yield (
                f"    {side:<16} {curve[-1][2]:.4f} after {curve[-1][0]:6.1f} s, {curve[-1][1]:5} epochs, "
                f"{line['trials']} trials; first step {line['first']:5.1f} s, process {line['seconds']:6.1f} s; "
                f"{1000 * line['own'] / curve[-1][1]:5.0f} ms an epoch, measuring included; workers busy {busy:4.0%}, "
                f"{(workers * window - line['own']) / line['trials']:5.2f} s a trial outside; load {line['load'][0]}"
            )
    for side in names:
        curves = [rise(sides[side]) for sides in pairs.values() if side in sides]
        until_then = [at for at in MOMENTS if at < max(curve[-1][0] for curve in curves)]
        cells = [f"{at} s {spread([volume(curve, at) for curve in curves])}" for at in (*until_then, math.inf)]
        yield f"  hypervolume of {side}, n = {len(curves)}: {', '.join(cells).replace('inf s', 'at the end')}"
    for side in [side for side in names if side != "glue"]:
        chosen = [sides for sides in pairs.values() if side in sides]
        curves = [(rise(sides[side]), rise(sides["glue"])) for sides in chosen]
        yield f"  the glue's over those of {side}, n = {len(chosen)}: median (lowest..highest), mean [95 %]"
        for share in SHARES:
            goals = [share * min(mine[-1][2], theirs[-1][2]) for mine, theirs in curves]
            times, epochs = (
                [until(b, goal)[at] / until(a, goal)[at] for (a, b), goal in zip(curves, goals, strict=True)]
                for at in (0, 1)
            )
            yield f"    to {share:4.0%} of the lower final: time {between(times)}; epochs {between(epochs)}"
        rates = [[line["own"] / rise(line)[-1][1] for line in (sides["glue"], sides[side])] for sides in chosen]
        yield f"    seconds an epoch, measuring included: {between([theirs / mine for theirs, mine in rates])}"
        last = ", ".join(f"{at:.0f}" if (at := behind(*pair)) else "never" for pair in curves)
        yield f"    behind after {HEAD_START:.0f} s, until second: {last}"
        if side == "ours":
            yield f"    goals: {judged(curves)}"


def judged(curves: list[tuple[Curve, Curve]]) -> str:
    """Tell which of the two goals pairs of ours and the glue's meet."""
    if len(curves) < SEEDS:
        return f"not judged: n = {len(curves)}, and {SEEDS} are needed"
    finals = [min(mine[-1][2], theirs[-1][2]) for mine, theirs in curves]
    ratios = [until(b, final)[0] / until(a, final)[0] for (a, b), final in zip(curves, finals, strict=True)]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    late = sum(bool(behind(*pair)) for pair in curves)
    return (
        f"{GOAL:g} times to the lower final {'met' if mean >= GOAL else 'missed'} ({mean:.2f}); "
        f"never behind after {HEAD_START:.0f} s {f'missed in {late} seeds' if late else 'met'}"
    )


DIFFER = "DIFFER"


def compared(trainings: list[Line]) -> Iterator[str]:
    """Compare the means of both sides at each level, with Student's interval of 95 %, to what they may differ by."""
    count = len(trainings)
    for level, (_, sparsity) in enumerate(trainings[0]["ours"]):
        mine, theirs = (np.array([line[side][level][0] for line in trainings]) for side in ("ours", "glue"))
        difference = 100 * float(mine.mean() - theirs.mean())
        half = 100 * half_width(float(mine.var(ddof=1) + theirs.var(ddof=1)), count) if count > 1 else math.inf
        low, high = difference - half, difference + half
        if low >= -POINT and high <= POINT:
            verdict = f"within {POINT:g} point"
        else:
            verdict = DIFFER if low > POINT or high < -POINT else "open"
        yield (
            f"  sparsity {sparsity:.4f}: {mine.mean():.3f}, {theirs.mean():.3f}; {difference:+.1f} "
            f"[{low:+.1f}, {high:+.1f}], {count} trainings each: {verdict}"
        )
