"""A study's progress as metrics of the Ray cluster: gauges that its metrics ports export for Prometheus.

The driver publishes them. Ray drops a series that has not been set for half a minute, so those of trials that have
ended and of launches that are over vanish. A resumed launch publishes under the same tags.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ray.util.metrics import Gauge

from search.results.progress import Snapshot
from search.store.live import RunningTrial
from trainables.store.records import Point

LEVELS = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99)
"""The sparsities at which the best robust accuracy is published: the front over time."""


class Gauges:
    """The gauges of one driver."""

    def __init__(self) -> None:
        """Register the gauges; Ray must be connected."""
        self._trials = Gauge("robustsearch_trials", "trials by state", ("study", "state"))
        self._failures = Gauge("robustsearch_failures", "failed trials by class", ("study", "failure"))
        self._hypervolume = Gauge("robustsearch_hypervolume", "hypervolume of the front", ("study",))
        self._front = Gauge("robustsearch_front_points", "points on the front", ("study",))
        self._best = Gauge("robustsearch_best_robust_accuracy", "best robust accuracy of a feasible point", ("study",))
        self._at_sparsity = Gauge(
            "robustsearch_robust_accuracy_at_sparsity", "best on the front from a sparsity on", ("study", "sparsity")
        )
        self._epochs = Gauge("robustsearch_epochs", "epochs trained, and shared by stored stages", ("study", "source"))
        self._left = Gauge("robustsearch_seconds_left", "estimated seconds to the end of the launch", ("study",))
        trial = ("study", "trial")
        self._epoch = Gauge("robustsearch_trial_epoch", "epochs done in the phase of a running trial", trial)
        self._done = Gauge("robustsearch_trial_done", "share of its epochs that a running trial has done", trial)
        self._loss = Gauge("robustsearch_trial_loss", "training loss of a running trial's last epoch", trial)
        self._robust = Gauge("robustsearch_trial_robust_accuracy", "a running trial's last measurement", trial)

    def set(self, snapshot: Snapshot) -> None:
        """Publish a snapshot; what is not known is left out."""
        study = {"study": snapshot.study}
        states = {state: getattr(snapshot, state) for state in ("complete", "stopped", "failed", "running", "waiting")}
        for state, count in {**states, "to come": snapshot.to_come}.items():
            self._trials.set(count, tags={**study, "state": state})
        for failure, count in snapshot.failures.items():
            self._failures.set(count, tags={**study, "failure": failure})
        self._hypervolume.set(snapshot.hypervolume, tags=study)
        self._front.set(snapshot.front, tags=study)
        if snapshot.best is not None:
            self._best.set(snapshot.best.robust_accuracy, tags=study)
        for level, robust in best_from(snapshot.front_points).items():
            self._at_sparsity.set(robust, tags={**study, "sparsity": f"{level:g}"})
        self._epochs.set(snapshot.epochs_trained, tags={**study, "source": "trained"})
        self._epochs.set(snapshot.epochs_shared, tags={**study, "source": "shared"})
        if snapshot.remaining is not None:
            self._left.set(snapshot.remaining, tags=study)
        for trial in snapshot.trials:
            self._set_trial(trial, {**study, "trial": str(trial.number)})

    def _set_trial(self, trial: RunningTrial, tags: dict[str, str]) -> None:
        self._done.set(trial.done, tags=tags)
        known = {self._epoch: trial.epoch, self._loss: trial.loss, self._robust: trial.robust_accuracy}
        for gauge, value in known.items():
            if value is not None and math.isfinite(value):
                gauge.set(value, tags=tags)


def best_from(front: Iterable[Point]) -> dict[float, float]:
    """Return the best robust accuracy of a front among points at least as sparse as each level that it reaches."""
    points = list(front)
    reached = {level: [p.robust_accuracy for p in points if p.sparsity >= level] for level in LEVELS}
    return {level: max(found) for level, found in reached.items() if found}
