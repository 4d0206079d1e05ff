"""Early stopping: which trials end before they are complete, decided from what trials have reported so far.

It knows nothing of Ray or Optuna. A `Scheduler` is a spec of a study; `build` gives the `Stopping` of one
search, which is told every report and says which trial to stop. What it holds is a function of the reports in
their order, so replaying them gives the same state.

Values are in the normalised form of `search.objectives.values`: every objective maximised, in [0, 1]. Source of the
idea that several objectives can be halved on: Schmucker et al. 2021, arXiv:2106.12639.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from trainables.core.registry import Registry
from trainables.core.spec import Spec
from trainables.method.partial import PartialSchedule
from trainables.metrics import MACS_EFFECTIVE, NONZERO, SPARSITY
from trainables.store.records import State


@dataclass(frozen=True)
class Report:
    """What a trial has shown at one moment.

    `resource` counts the epochs that it trained itself, none for stages it found stored. `values` are the objectives of
    the network as it is now, and `sparsity` is that network's. `share` says how much of the training under way is
    done; it is 1 at a measured point. `done` counts the trial's measurements before, `ahead` are the sparsities of
    those to come, this one excluded. `excess` is by how much an accuracy misses its constraint, 0 where none does.
    `left` is the part of all the trial's epochs, stored ones included, that is to come.
    """

    resource: int
    values: tuple[float, ...]
    sparsity: float
    ahead: tuple[float, ...] = ()
    share: float = 1.0
    done: int = 0
    excess: float = 0.0
    left: float = 1.0

    @property
    def target(self) -> float:
        """The sparsity of the trial's last measurement."""
        return self.ahead[-1] if self.ahead else self.sparsity


def aimed(report: Report, objectives: Sequence[str]) -> tuple[float, ...]:
    """Return the values with those that follow from the sparsity as they will be at the trial's target.

    Multiply-accumulates are taken to shrink with the weights.
    """
    kept = (1 - report.target) / (1 - report.sparsity) if report.sparsity < 1 else 1.0

    def then(name: str, now: float) -> float:
        if name in (SPARSITY, NONZERO):
            return report.target
        return 1 - (1 - now) * kept if name == MACS_EFFECTIVE else now

    return tuple(map(then, objectives, report.values))


class Stopping:
    """Early stopping of one search; the base never stops anything.

    Where `live` is False, other trials see a trial's reports only when it has ended: what is decided about trials
    that run side by side then does not depend on which of them was faster.
    """

    def __init__(self, objectives: Sequence[str], live: bool = True) -> None:
        """Start without reports; `objectives` are names of measures, in the order of the values."""
        self.objectives = tuple(objectives)
        self.live = live
        self.front: list[tuple[float, ...]] = []
        """What the complete trials' feasible points reach: those that no other is as good as everywhere."""
        self.reports: dict[int, list[Report]] = {}
        """All that was reported by trials which have not failed."""
        self._unseen: dict[int, list[Report]] = {}

    def report(self, number: int, report: Report) -> bool:
        """Take in what trial `number` has shown; say whether to stop it.

        A trial is never stopped while it holds a point that no complete trial is as good as: the point would be lost.
        """
        hopeless = bool(report.ahead) and self._hopeless(number, report)
        self._take(number, report)
        if self.live:
            self._show(number, report)
        else:
            self._unseen.setdefault(number, []).append(report)
        return hopeless and not any(map(self._needed, self.reports[number]))

    def end(self, number: int, state: State) -> None:
        """Take in how a trial ended: the front takes up the points of a complete one, a failed one never was."""
        for report in self._unseen.pop(number, ()):
            self._show(number, report)
        if state == "failed":
            self.reports.pop(number, None)
            self._forget(number)
        elif state == "complete":
            for report in filter(self._needed, self.reports.get(number, ())):
                self.front = [known for known in self.front if not _covers(report.values, known)] + [report.values]

    def replay(self, number: int, reports: Iterable[Report], state: State) -> None:
        """Take in a trial that ended in an earlier launch; no verdict is asked for."""
        for report in reports:
            self._take(number, report)
            self._show(number, report)
        self.end(number, state)

    def state(self) -> dict[str, Any]:
        """Return what decisions depend on as JSON-able data."""
        told = {str(number): [asdict(report) for report in reports] for number, reports in self.reports.items()}
        return {"front": sorted(map(list, self.front)), "reports": dict(sorted(told.items()))}

    def _take(self, number: int, report: Report) -> None:
        self.reports.setdefault(number, []).append(report)

    def _needed(self, report: Report) -> bool:
        """Say whether a report is of a feasible measured point that no complete trial is as good as."""
        feasible = report.share == 1 and report.excess <= 0
        return feasible and not any(_covers(known, report.values) for known in self.front)

    def _hopeless(self, number: int, report: Report) -> bool:
        """Say whether a trial with measurements to come should stop, by what its kind of scheduler looks at."""
        return False

    def _show(self, number: int, report: Report) -> None:
        """Let other trials be compared with a report."""

    def _forget(self, number: int) -> None:
        """Compare no other trial with this one any more."""


def _covers(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True))


class Scheduler(Spec):
    """Base of every scheduler of early stopping."""

    kind: str

    def build(self, objectives: Sequence[str], live: bool = True) -> Stopping:
        """Return the early stopping of one search for these objectives; see `Stopping` for `live`."""
        raise NotImplementedError

    def rungs(self) -> PartialSchedule | None:
        """Return when a worker is to look at a training on its way and how cheaply; None for never."""
        return None


class Off(Scheduler):
    """No early stopping: every trial runs to its end."""

    kind: Literal["none"] = "none"

    def build(self, objectives: Sequence[str], live: bool = True) -> Stopping:
        return Stopping(objectives, live)


class Moasha(Scheduler):
    """Asynchronous successive halving on several objectives.

    After `grace`, `grace` * `eta`, ... epochs of its own, `max_rungs` times, a trial stops unless it is among the
    best 1 / `eta` of the trials that got so far. `nondominated` ranks by layers of non-dominated trials,
    and within a layer so that its first members spread over it; `hypervolume` by layers, then by what a trial adds to
    its layer's hypervolume. Trials are compared at the sparsity they aim at. Constraints are not looked at: early in
    training nobody meets one. Source: Schmucker et al. 2021, arXiv:2106.12639 §3.
    """

    kind: Literal["moasha"] = "moasha"
    rank: Literal["nondominated", "hypervolume"] = "nondominated"
    eta: float = Field(default=3, gt=1)
    grace: int = Field(default=4, ge=1)
    max_rungs: int = Field(default=3, ge=1)
    examples: int = Field(default=128, gt=0)
    steps: int = Field(default=5, gt=0)

    @property
    def levels(self) -> tuple[int, ...]:
        """The epochs at which there is a rung, lowest first."""
        return tuple(sorted({round(self.grace * self.eta**k) for k in range(self.max_rungs)}))

    def build(self, objectives: Sequence[str], live: bool = True) -> Stopping:
        from search.early_stopping.moasha import RANKINGS, Halving

        return Halving(objectives, self.levels, self.eta, RANKINGS[self.rank], live)

    def rungs(self) -> PartialSchedule:
        return PartialSchedule(levels=self.levels, examples=self.examples, steps=self.steps)


class Reach(Scheduler):
    """Stop a trial when its epochs to come are likely to be worth less than another trial's.

    The sparsities that a trial has to come are known. Its shortfall against the others that were at the same place and
    aim at least as high is measured, and the chance to reach the front at each of those sparsities foretold from it,
    as it went for the trials that have been further. The trial stops where the best of these chances is below `worth`
    times the mean chance of all that were at the place, times the part of its epochs that is left. At least `evidence`
    others must have been at the place: a measured point, or a look after one of `shares` of a training of at least
    `least` epochs.
    """

    kind: Literal["reach"] = "reach"
    worth: float = Field(default=0.5, gt=0, le=1)
    evidence: int = Field(default=4, ge=1)
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.05, 0.1, 0.25, 0.5)
    least: int = Field(default=8, ge=1)
    examples: int = Field(default=128, gt=0)
    steps: int = Field(default=5, gt=0)

    def build(self, objectives: Sequence[str], live: bool = True) -> Stopping:
        from search.early_stopping.reach import Reaching

        return Reaching(objectives, self.worth, self.evidence, live)

    def rungs(self) -> PartialSchedule:
        return PartialSchedule(shares=self.shares, least=self.least, examples=self.examples, steps=self.steps)


SCHEDULERS: Registry[Scheduler] = Registry("scheduler", {"none": Off, "moasha": Moasha, "reach": Reach})
