"""Early stopping: which trials end before they are complete, decided from their measurements so far.

It knows nothing of Ray or Optuna. A `Scheduler` is a spec of a study; `build` returns the `StoppingRule` of one search,
which sees every measurement and decides which trial to stop. Its state is a function of the measurements in their
order, so replaying them gives the same state.

Values are in the normalised form of `search.objectives.values`: every objective maximised, in [0, 1].
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from search.objectives.dominance import covers
from trainables.core.spec import Spec
from trainables.method.partial import PartialSchedule
from trainables.metrics import MACS_EFFECTIVE, NONZERO, SPARSITY
from trainables.store.records import State


@dataclass(frozen=True)
class Measurement:
    """What a trial shows at one moment: a measured point, or a partial measurement during a training.

    `resource` counts the epochs that the trial trained itself, none for stages that were stored. `values` are the
    objectives of the network as it is now, and `sparsity` is that network's. `share` is how much of the current
    training is done; 1 at a measured point. `done` counts the points of the trial before, `ahead` are the sparsities of
    those to come, without this one. `violation` is the largest violation of a constraint on an accuracy, 0 where all
    are met, and `known_violation` that of one which the sparsity decides. `left` is the part of all epochs of the
    trial, stored ones included, that is to come.
    """

    resource: int
    values: tuple[float, ...]
    sparsity: float
    ahead: tuple[float, ...] = ()
    share: float = 1.0
    done: int = 0
    violation: float = 0.0
    left: float = 1.0
    known_violation: float = 0.0

    @property
    def feasible(self) -> bool:
        """Whether all constraints are met."""
        return self.violation <= 0 and self.known_violation <= 0

    @property
    def target(self) -> float:
        """The sparsity of the trial's last measurement."""
        return self.ahead[-1] if self.ahead else self.sparsity


def aimed(measurement: Measurement, objectives: Sequence[str]) -> tuple[float, ...]:
    """Return the values with those that follow from the sparsity as they will be at the trial's target.

    Multiply-accumulates are taken to shrink with the weights.
    """
    kept = (1 - measurement.target) / (1 - measurement.sparsity) if measurement.sparsity < 1 else 1.0

    def then(name: str, now: float) -> float:
        if name in (SPARSITY, NONZERO):
            return measurement.target
        return 1 - (1 - now) * kept if name == MACS_EFFECTIVE else now

    return tuple(map(then, objectives, measurement.values))


class StoppingRule:
    """Early stopping of one search; the base never stops a trial.

    Where `live` is False, other trials are compared with the measurements of a trial only once it has ended: what is
    decided about trials that run side by side then does not depend on which of them is faster.
    """

    def __init__(self, objectives: Sequence[str], live: bool = True) -> None:
        """Start without measurements; `objectives` are names of measures, in the order of the values."""
        self.objectives = tuple(objectives)
        self.live = live
        self.front: list[tuple[float, ...]] = []
        """Values of the feasible points of complete trials, without those that another covers."""
        self.measurements: dict[int, list[Measurement]] = {}
        """All measurements of trials that have not failed."""
        self._pending: dict[int, list[Measurement]] = {}

    def report(self, number: int, measurement: Measurement) -> bool:
        """Add a measurement of trial `number`; return whether to stop the trial.

        A trial is never stopped while it has a point that no complete trial covers: the point would be lost.
        """
        hopeless = bool(measurement.ahead) and self._hopeless(number, measurement)
        self._add(number, measurement)
        if self.live:
            self._publish(number, measurement)
        else:
            self._pending.setdefault(number, []).append(measurement)
        return hopeless and not any(map(self._extends_front, self.measurements[number]))

    def end(self, number: int, state: State) -> None:
        """End a trial: the points of a complete one join the front, the measurements of a failed one are dropped."""
        for measurement in self._pending.pop(number, ()):
            self._publish(number, measurement)
        if state == "failed":
            self.measurements.pop(number, None)
            self._withdraw(number)
        elif state == "complete":
            for measurement in filter(self._extends_front, self.measurements.get(number, ())):
                others = [values for values in self.front if not covers(measurement.values, values)]
                self.front = [*others, measurement.values]

    def replay(self, number: int, measurements: Iterable[Measurement], state: State) -> None:
        """Add a trial that ended in an earlier launch; nothing is decided about it."""
        for measurement in measurements:
            self._add(number, measurement)
            self._publish(number, measurement)
        self.end(number, state)

    def state(self) -> dict[str, Any]:
        """Return what decisions depend on as JSON-able data."""
        shown = {str(number): [asdict(one) for one in measured] for number, measured in self.measurements.items()}
        return {"front": sorted(map(list, self.front)), "measurements": dict(sorted(shown.items()))}

    def _add(self, number: int, measurement: Measurement) -> None:
        self.measurements.setdefault(number, []).append(measurement)

    def _extends_front(self, measurement: Measurement) -> bool:
        """Return whether this is a feasible measured point that no complete trial covers."""
        if measurement.share < 1 or not measurement.feasible:
            return False
        return not any(covers(values, measurement.values) for values in self.front)

    def _hopeless(self, number: int, measurement: Measurement) -> bool:
        """Return whether a trial with points to come should stop, by the criterion of this rule."""
        return False

    def _publish(self, number: int, measurement: Measurement) -> None:
        """Let other trials be compared with a measurement."""

    def _withdraw(self, number: int) -> None:
        """Compare no other trial with this one any more."""


class Scheduler(Spec):
    """Base of every scheduler of early stopping."""

    kind: str

    @abstractmethod
    def build(self, objectives: Sequence[str], live: bool = True) -> StoppingRule:
        """Return the early stopping of one search for these objectives; see `StoppingRule` for `live`."""

    def partial_schedule(self) -> PartialSchedule | None:
        """Return when a worker measures a network during its training, and how cheaply; None for never."""
        return None


class Off(Scheduler):
    """No early stopping: every trial runs to its end."""

    kind: Literal["none"] = "none"

    def build(self, objectives: Sequence[str], live: bool = True) -> StoppingRule:
        return StoppingRule(objectives, live)
