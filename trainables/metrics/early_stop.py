"""The epoch at which the validation loss would have stopped a training."""

from __future__ import annotations

from typing import Literal

from trainables.metrics.base import Metric, MetricContext


class EarlyStop(Metric):
    """The lowest validation loss of the training directly before the measurement.

    `early_stop_iteration` counts steps and `early_stop_epoch` epochs from the start of that training's schedule,
    `early_stop_loss` is the loss. Null where the training recorded none (`Training.validate_on`) or another phase
    followed it. Source: Frankle & Carbin 2019, arXiv:1803.03635, as a measure of how fast a network learns.
    """

    kind: Literal["early_stop"] = "early_stop"

    def values(self, context: MetricContext) -> dict[str, float]:
        history = context.state.history
        if not len(history.get("loss", ())):
            return dict.fromkeys(("early_stop_iteration", "early_stop_epoch", "early_stop_loss"), float("nan"))
        at = int(history["loss"].argmin())
        return {
            "early_stop_iteration": float(history["step"][at]),
            "early_stop_epoch": float(history["epoch"][at]),
            "early_stop_loss": float(history["loss"][at]),
        }
