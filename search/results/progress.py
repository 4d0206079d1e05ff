"""How far a study is, from its records and what its driver knows: one value, and one way to say it.

`robustsearch launch`, `status` and `watch` show these counts and lines; so they agree.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from search.files.messages import counted
from search.objectives.replicates import MeanPoint
from search.results.exporters.base import percent_sparsity
from search.store.live import DriverState, RunningTrial
from search.store.records import Records
from trainables.core.measures import wilson
from trainables.store.flags import questioned
from trainables.store.records import Outcome, Point

LONG_SILENCE = 60.0
"""Seconds without a report of a worker from which they are shown; an epoch may take longer."""


@dataclass(frozen=True)
class Snapshot:
    """How far a study is; `front` counts a network that several trials share once.

    `issued` trials have a record; of these `finished` have ended, `running` run, `damaged` cannot be read, and the
    others wait. `points` count those of running trials too. `front_points` are the front, from dense to sparse, and
    `trials` are those that run, as far as the driver of the study says. `rate` is in trials per hour of this launch.
    `driver` is None where no launch runs; then there is neither `rate` nor `remaining`. `killed` is the process of a
    launch that ended without saying so. `failures` counts the failed trials by class. `epochs_trained` and
    `epochs_shared` count those of running trials too. `fits` is how many trials fit on the nodes now, of a
    cluster that grows and shrinks.

    Units: `elapsed` (of this launch) and `remaining` seconds.
    """

    study: str
    target: int
    complete: int
    failed: int
    running: int
    points: int
    front: int
    hypervolume: float
    best: Point | None
    elapsed: float
    remaining: float | None
    stopped: int = 0
    issued: int | None = None
    damaged: int = 0
    rate: float | None = None
    trials: tuple[RunningTrial, ...] = ()
    front_points: tuple[Point, ...] = ()
    driver: str | None = None
    killed: str | None = None
    objectives: tuple[str, ...] = ()
    failures: Mapping[str, int] = field(default_factory=dict)
    epochs_trained: int = 0
    epochs_shared: int = 0
    fits: int | None = None

    @property
    def finished(self) -> int:
        """Trials that have ended, well or not."""
        return self.complete + self.failed + self.stopped

    @property
    def waiting(self) -> int:
        """Trials that were issued and neither run nor have ended."""
        known = self.finished + self.running + self.damaged
        return max(0, (known if self.issued is None else self.issued) - known)

    @property
    def to_come(self) -> int:
        """Trials of the budget that were not issued yet."""
        known = self.finished + self.running + self.damaged
        return max(0, self.target - (known if self.issued is None else self.issued))

    @property
    def counts(self) -> dict[str, int]:
        """Trials by state, without the states that none is in; `complete` is always there."""
        states = {
            "complete": self.complete,
            "stopped": self.stopped,
            "running": self.running,
            "failed": self.failed,
            "waiting": self.waiting,
            "damaged": self.damaged,
            "to come": self.to_come,
        }
        return {state: count for state, count in states.items() if count or state == "complete"}


def snapshot(records: Records, state: DriverState, front: Sequence[Point], hypervolume: float) -> Snapshot:
    """Return how far a study is, by its records, their front, and what is known of its driver.

    The `state` is to be read first: what ends in between counts as ended.
    """
    trials, live = records.trials(), state.live
    ended = [outcome for _, outcome in trials if outcome is not None]
    states = Counter(outcome.state for outcome in ended)
    unfinished = {trial.number for trial, outcome in trials if outcome is None}
    running = tuple(trial for trial in live.trials if trial.number in unfinished) if live else ()
    # A driver of which nothing is known may be running all of them.
    unknown = len(unfinished) if state.driver else 0
    damaged, planned = len(records.damaged()), records.spec.planned
    points = sum(len(outcome.points) for outcome in ended if outcome.state == "complete")
    epochs = [epochs_of(outcome) for outcome in ended]
    elapsed = max(0.0, time.time() - live.began) if live else 0.0
    return Snapshot(
        study=str(records.spec.name),
        target=planned,
        complete=states["complete"],
        failed=states["failed"],
        running=len(running) if live else unknown,
        points=points + sum(trial.points for trial in running),
        front=len(front),
        hypervolume=hypervolume,
        best=most_robust(front),
        elapsed=elapsed,
        remaining=live.remaining if live else None,
        stopped=states["stopped"],
        issued=len(trials) + damaged,
        damaged=damaged,
        rate=rate(len(ended) - live.ended_before, elapsed) if live else None,
        trials=running,
        front_points=tuple(front),
        driver=str(state.driver) if state.driver else None,
        killed=str(state.dead) if state.dead else None,
        objectives=tuple(records.spec.objectives),
        failures=dict(Counter(outcome.failure.kind for outcome in ended if outcome.failure)),
        epochs_trained=sum(own for own, _ in epochs) + sum(trial.epochs_trained for trial in running),
        epochs_shared=sum(shared for _, shared in epochs) + sum(trial.epochs_shared for trial in running),
    )


def epochs_of(outcome: Outcome) -> tuple[int, int]:
    """Return how many epochs an ended trial trained itself and took from stored stages, as its last point says."""
    last = outcome.points[-1] if outcome.points else None
    return (last.epochs_trained, last.epochs_shared) if last else (0, 0)


def rate(ended: int, elapsed: float) -> float | None:
    """Return how many trials end per hour if `ended` did in `elapsed` seconds; None before the first."""
    return 3600 * ended / elapsed if ended and elapsed > 0 else None


def most_robust(front: Sequence[Point]) -> Point | None:
    """Return the most robust point of a front, of equal ones the sparsest, whose accuracy no flag questions."""
    points = [point for point in front if not questioned(point.flags)]
    return max(points, key=lambda point: (point.robust_accuracy, point.sparsity), default=None)


def on_front(count: int, *, means: bool) -> str:
    """Write a number of rows of the front, which are points or, with replicates, their `means` over seeds."""
    return f"{counted(count, 'mean')} over seeds on the front" if means else f"{count} on the front"


def front_text(now: Snapshot) -> str:
    """Write how many rows the front of a snapshot has, and of what."""
    return on_front(now.front, means=any(isinstance(point, MeanPoint) for point in now.front_points))


def duration(seconds: float) -> str:
    """Write a duration with its two largest units."""
    whole = int(seconds + 0.5)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {name}"
    return f"{whole} s"


def lines(now: Snapshot) -> dict[str, str]:
    """Return what a person is told of a study, by name; what is not known is left out."""
    counts = ", ".join(f"{count} {state}" for state, count in now.counts.items())
    found = {
        "trials": f"{now.target} planned: {counts}",
        "points": f"{now.points} measured, {front_text(now)}",
        "hypervolume": f"{now.hypervolume:.4f}",
    }
    if now.best is not None:
        found["most robust"] = accuracies(now.best)
    if now.fits is not None:
        found["nodes"] = f"room for {counted(now.fits, 'trial')} now"
    if now.rate is not None:
        found["rate"] = f"{rate_text(now.rate)} trials per hour"
    if now.driver is not None or now.elapsed:
        left = f", about {duration(now.remaining)} left" if now.remaining else ""
        found["time"] = f"{duration(now.elapsed)}{left}"
    return found


def driver_text(now: Snapshot) -> str:
    """Return which process runs the search, or that none does."""
    if now.killed is not None:
        return f"none: {now.killed}, no longer runs; it was killed"
    return now.driver or "none: no launch is running"


def rate_text(rate: float) -> str:
    """Write a number of trials per hour."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"


def accuracies(point: Point) -> str:
    """Write the accuracies of a point with Wilson intervals, the number of images that they are of, and its flags.

    Those of replicates are means with standard deviations.
    """
    robust, clean = (_accuracy(point, name) for name in ("robust", "clean"))
    where = f"at {percent_sparsity(point.sparsity)} % sparsity"
    flagged = f"; {point.status}: {', '.join(point.flags)}" if point.flags else ""
    return f"{robust} robust, {clean} clean {where} (n = {point.examples}){flagged}"


def _accuracy(point: Point, name: str) -> str:
    accuracy: float = getattr(point, f"{name}_accuracy")
    if isinstance(point, MeanPoint):
        deviation: float | None = getattr(point, f"{name}_accuracy_sd")
        spread = "" if deviation is None else f" ± {100 * deviation:.1f}"
        return f"{100 * accuracy:.1f} %{spread} ({point.seeds})"
    low, high = wilson(getattr(point, f"{name}_correct"), point.examples)
    return f"{100 * accuracy:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def trial_line(trial: RunningTrial) -> str:
    """Return in a line what a running trial does."""
    parts = [f"trial {trial.number}: {activity(trial)}"]
    parts += [f"loss {trial.loss:.4g}"] if trial.loss is not None else []
    parts += [counted(trial.points, "point")] if trial.points else []
    return ", ".join([*parts, duration(trial.seconds)])


def activity(trial: RunningTrial) -> str:
    """Return what a running trial does: phase and epoch, or what it waits for; and since when it said nothing."""
    said = trial.phase
    if trial.waits_for is not None:
        said = f"waits for {trial.waits_for.partition(', started')[0]}"
    elif trial.epoch is not None and trial.epochs is not None and trial.phase != "starting":
        said = f"{trial.phase} {trial.epoch}/{trial.epochs}"
    return said + (f" (no report for {duration(trial.silent)})" if trial.silent >= LONG_SILENCE else "")


def line(now: Snapshot) -> str:
    """Write a snapshot as one line, for logs."""
    counts = now.counts
    named = {"stopped": "stopped early", "failed": "failed", "damaged": "damaged"}
    others = "".join(f", {counts[state]} {name}" for state, name in named.items() if state in counts)
    waiting = f", {now.waiting} waiting" if now.waiting else ""
    room = f", room for {now.fits} on the nodes" if now.fits is not None else ""
    left = f", {duration(now.remaining)} left" if now.remaining else ""
    return (
        f"{now.complete}/{now.target} trials complete{others}, {now.running} running{waiting}{room}; "
        f"{counted(now.points, 'point')}, {front_text(now)}, "
        f"hypervolume {now.hypervolume:.4f}{_best(now.best)}; {duration(now.elapsed)}{left}"
    )


def _best(point: Point | None) -> str:
    if point is None:
        return ""
    if isinstance(point, MeanPoint):
        return f", best robust accuracy {_accuracy(point, 'robust')}"
    low, high = wilson(point.robust_correct, point.examples)
    return f", best robust accuracy {point.robust_accuracy:.3f} [{low:.3f}, {high:.3f}] of {point.examples}"
