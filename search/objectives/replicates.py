"""One point for the replicates of a configuration: means over training seeds, with their standard deviations."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence

from pydantic import Field

from trainables.metrics import CLEAN_ACCURACY, ROBUST_ACCURACY, SPARSITY
from trainables.store.records import Outcome, Point, TrialRecord

COUNTED = ("nonzero", "macs_effective")


class MeanPoint(Point):
    """The mean of the points that the replicates of a configuration have in common.

    Verdicts and hashes are those of the first replicate. Standard deviations are over training seeds, None of one seed;
    they say nothing of the images.
    """

    seeds: int = Field(gt=0)
    robust_accuracy_sd: float | None
    clean_accuracy_sd: float | None


def mean_point(points: Sequence[Point]) -> MeanPoint:
    """Return the mean of at least one point; its status is the worst, its flags are those of all."""
    first = points[0]
    means = {
        name: statistics.fmean(getattr(point, name) for point in points)
        for name in (ROBUST_ACCURACY, CLEAN_ACCURACY, SPARSITY)
    }
    counts = {
        name: round(statistics.fmean(values))
        for name in COUNTED
        if None not in (values := [getattr(point, name) for point in points])
    }
    worst = next((status for status in ("invalid", "warn") if any(p.status == status for p in points)), "ok")
    screened = {"tier": "screened"} if any(point.tier == "screened" for point in points) else {}
    return MeanPoint(
        **{
            **first.model_dump(),
            **means,
            **counts,
            **screened,
            "robust_correct": round(means[ROBUST_ACCURACY] * first.examples),
            "clean_correct": round(means[CLEAN_ACCURACY] * first.examples),
            "status": worst,
            "flags": tuple(dict.fromkeys(flag for point in points for flag in point.flags)),
        },
        seeds=len(points),
        robust_accuracy_sd=deviation([point.robust_accuracy for point in points]),
        clean_accuracy_sd=deviation([point.clean_accuracy for point in points]),
    )


def deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation of a sample; None of a single value."""
    return statistics.stdev(values) if len(values) > 1 else None


class Replicated:
    """What the trials of a study have measured so far, where replicates count once the last one has ended.

    Where one was stopped early, none counts: those that went on are the better ones.
    """

    def __init__(self, seeds: Collection[int]) -> None:
        """Start with nothing; `seeds` are those of the replicates, none where there are none."""
        self._seeds = set(seeds)
        self._ended: dict[int | None, dict[int, Outcome]] = {}

    def add(self, trial: TrialRecord, outcome: Outcome) -> None:
        """Add an ended trial."""
        self._ended.setdefault(trial.configuration, {})[trial.seed] = outcome

    def settled(self, configuration: int | None) -> bool:
        """Return whether all replicates of a configuration have ended, none of them early; without replicates, True."""
        if configuration is None:
            return True
        ended = self._ended.get(configuration, {})
        return self._seeds <= ended.keys() and all(outcome.state != "stopped" for outcome in ended.values())

    def end(self, trial: TrialRecord, outcome: Outcome) -> Sequence[Point]:
        """Add an ended trial, and return the points that count from now on.

        These are its own, if it is complete; of the last replicate to end, the means over all that have them.
        """
        if trial.configuration is None:
            return outcome.points if outcome.state == "complete" else ()
        self.add(trial, outcome)
        if not self.settled(trial.configuration):
            return ()
        alike: dict[int, list[Point]] = {}
        for each in self._ended[trial.configuration].values():
            for point in each.points if each.state == "complete" else ():
                alike.setdefault(point.measure, []).append(point)
        return [mean_point(points) for points in alike.values()]
