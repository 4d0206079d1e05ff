"""Compare searches: each group's hypervolume and attainment, and each pair of groups over ranges of sparsity."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import moocore
import numpy as np

from search.results.compare import comparable
from search.results.compare.groups import Group
from search.results.compare.ranges import Attained, Range, Steps, attained, ranges
from search.results.compare.resamples import Interval, Resamples, interval
from search.results.compare.runs import Run, runs_of

SURFACES = (25, 50, 75)
"""Shares of the repeats, in percent, that attain what an attainment surface marks."""


@dataclass(frozen=True)
class RunResult:
    """One study: the ids of the points on its front, from dense to sparse, and its hypervolume."""

    study: str
    front: tuple[str, ...]
    examples: int
    hypervolume: Interval


@dataclass(frozen=True)
class GroupResult:
    """One search with its repeats. `hypervolume` is the mean over them, `sd` their standard deviation.

    `surfaces` are points (sparsity, robust accuracy) by share of the repeats in percent; none of a single run.
    """

    label: str
    runs: tuple[RunResult, ...]
    hypervolume: Interval
    sd: float | None
    surfaces: dict[int, list[tuple[float, float]]]


@dataclass(frozen=True)
class Pair:
    """Two groups. `hypervolume` is that of the first minus that of the second.

    `covers` is the share of the second's points that a point of the first dominates or equals, `covered` the reverse.
    `epsilon` is the least that must be added to all objectives of the first so that it covers the second,
    `epsilon_reverse` the reverse; all are means over pairs of repeats.
    """

    one: str
    other: str
    hypervolume: Interval
    covers: float | None
    covered: float | None
    epsilon: float | None
    epsilon_reverse: float | None
    ranges: tuple[Range, ...]


@dataclass(frozen=True)
class Comparison:
    """A comparison of groups, with what it takes to draw it."""

    confirmed: bool
    measured: str
    objectives: tuple[str, ...]
    notes: tuple[str, ...]
    groups: tuple[GroupResult, ...]
    pairs: tuple[Pair, ...]
    runs: tuple[tuple[Run, ...], ...]
    steps: Steps
    attained: tuple[Attained, ...]
    folders: tuple[Path, ...]
    """The studies' directories on this machine, in which nothing is written."""


def compare(groups: Sequence[Group], *, confirmed: bool = False) -> Comparison:
    """Compare the fronts of groups of studies; `confirmed` takes the confirmed numbers.

    Source of the surfaces: Grunert da Fonseca, Fonseca, Hall 2001, doi:10.1007/3-540-44719-9_15; of coverage and the
    additive epsilon: Zitzler et al. 2003, doi:10.1109/TEVC.2003.810758.

    Raises:
        SpecError: the studies cannot be compared, or have no confirmed points.
    """
    studies = [study for group in groups for study in group.studies]
    comparable.check(studies, confirmed=confirmed)
    runs = runs_of(studies, confirmed=confirmed)
    resamples = Resamples(runs)
    volumes = [resamples.hypervolumes(run, at) for at, run in enumerate(runs)]
    members = _members(groups)
    steps = Steps(runs, resamples)
    reached = [attained(steps, group.label, at) for group, at in zip(groups, members, strict=True)]
    means = [
        resamples.mean_of_repeats(np.stack([volumes[i] for i in at]), group.label)
        for group, at in zip(groups, members, strict=True)
    ]
    results = [
        _group(group.label, [runs[i] for i in at], [volumes[i] for i in at], mean)
        for group, at, mean in zip(groups, members, means, strict=True)
    ]
    by_group = tuple(tuple(runs[i] for i in at) for at in members)
    pairs = [
        _pair(
            results[i],
            results[j],
            means[i] - means[j],
            (by_group[i], by_group[j]),
            ranges(steps, reached[i], reached[j]),
        )
        for i, j in combinations(range(len(groups)), 2)
    ]
    return Comparison(
        confirmed=confirmed,
        measured=comparable.measured(studies, confirmed=confirmed),
        objectives=tuple(studies[0].spec.objectives),
        notes=(*comparable.notes(studies, confirmed=confirmed), *_flagged(runs)),
        groups=tuple(results),
        pairs=tuple(pairs),
        runs=by_group,
        steps=steps,
        attained=tuple(reached),
        folders=tuple(home for study in studies if (home := study.records.storage.local) is not None),
    )


def _flagged(runs: Sequence[Run]) -> Iterator[str]:
    for run in runs:
        if flagged := [network.point for network in run.networks if network.flagged]:
            yield f"{run.study}: {len(flagged)} of {len(run.networks)} points are flagged: {', '.join(flagged)}"


def _members(groups: Sequence[Group]) -> list[range]:
    """Return which runs belong to each group."""
    ends = np.cumsum([0, *(len(group.studies) for group in groups)])
    return [range(int(first), int(last)) for first, last in pairwise(ends)]


def _group(label: str, runs: Sequence[Run], volumes: Sequence[np.ndarray], mean: np.ndarray) -> GroupResult:
    found = [run.hypervolume() for run in runs]
    each = tuple(
        RunResult(run.study, tuple(n.point for n in run.networks), run.examples, interval(value, draws))
        for run, value, draws in zip(runs, found, volumes, strict=True)
    )
    spread = statistics.stdev(found) if len(found) > 1 else None
    return GroupResult(label, each, interval(statistics.fmean(found), mean), spread, _surfaces(runs))


def _surfaces(runs: Sequence[Run]) -> dict[int, list[tuple[float, float]]]:
    """Return the attainment surfaces of several runs, from dense to sparse."""
    points = [(n.sparsity, n.robust_accuracy, at) for at, run in enumerate(runs) for n in run.networks]
    if len(runs) < 2 or not points or any(not run.networks for run in runs):
        return {}
    table = np.array(points, dtype=np.float64)
    found = moocore.eaf(-table[:, :2], table[:, 2], percentiles=list(SURFACES))
    surfaces: dict[int, list[tuple[float, float]]] = {share: [] for share in SURFACES}
    for sparsity, accuracy, share in found:
        surfaces[round(float(share))].append((-float(sparsity), -float(accuracy)))
    return {share: sorted(places) for share, places in surfaces.items()}


def _pair(
    one: GroupResult,
    other: GroupResult,
    draws: np.ndarray,
    runs: tuple[Sequence[Run], Sequence[Run]],
    found: list[Range],
) -> Pair:
    values = [
        (mine.values, theirs.values) for mine in runs[0] for theirs in runs[1] if mine.networks and theirs.networks
    ]
    return Pair(
        one.label,
        other.label,
        interval(one.hypervolume.value - other.hypervolume.value, draws),
        _mean([_coverage(mine, theirs) for mine, theirs in values]),
        _mean([_coverage(theirs, mine) for mine, theirs in values]),
        _mean([_epsilon(mine, theirs) for mine, theirs in values]),
        _mean([_epsilon(theirs, mine) for mine, theirs in values]),
        tuple(found),
    )


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _coverage(mine: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.mean([(mine >= point).all(axis=1).any() for point in theirs]))


def _epsilon(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Return the additive epsilon indicator; below 0 where the first lies beyond the second everywhere."""
    return float(max((point - mine).max(axis=1).min() for point in theirs))
