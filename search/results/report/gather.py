"""What a report shows, gathered from a study's records: plain data, nothing of how it looks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from search import objectives
from search.objectives import pareto
from search.objectives.replicates import Replicated
from search.results.confirmed import ConfirmedRow
from search.results.curves import Curve
from search.results.progress import Snapshot
from search.results.study import Answer, Study
from search.results.table import PointRow, TrialRow, Trials
from search.space.parameters import Space
from search.study.spec import StudySpec
from trainables.store.records import Outcome
from trainables.store.stages import Stages
from trainables.store.storage import Storage
from trainables.store.weights_by_layer import LayerWeights

if TYPE_CHECKING:
    from search.results.references.match import Match
    from search.samplers.optuna.importance import Importance

MOST_NETWORKS = 40
"""How many networks of the front are shown layer by layer, and how many trials with their training curves."""
LARGEST_NETWORKS = 2 * 1024**3
"""How many bytes of stored networks are read for that."""

MOST_STAGES = 5000
"""How many stages' descriptions are read to tell training from measuring."""

Work = Literal["complete", "stopped", "failed"]
Kind = Literal["front", "flagged", "warned", "dominated", "infeasible", "unsettled", "screened", "invalid"]


@dataclass(frozen=True)
class Progressed:
    """How far the search was after an ended trial. Units: `seconds` of work and `epochs` trained, of all so far."""

    trial: int
    ended: int
    epochs: int
    seconds: float
    hypervolume: float


@dataclass(frozen=True)
class Cost:
    """What the trials that ended one way took: their number, epochs trained and taken over, seconds.

    `measuring` are the seconds that no stored stage accounts for: measuring, loading and saving. It is None where
    stages are missing.
    """

    trials: int = 0
    epochs: int = 0
    shared: int = 0
    seconds: float = 0.0
    measuring: float | None = None


@dataclass(frozen=True)
class Network:
    """A network of the front, layer by layer."""

    point: PointRow
    layers: tuple[LayerWeights, ...]


@dataclass(frozen=True)
class Gathered:
    """All that a report shows. `curves` are by trial; `ended` are the outcomes in the order in which they ended."""

    spec: StudySpec
    location: str
    created: str
    data_hash: str
    data_notes: tuple[str, ...]
    class_names: tuple[str, ...]
    now: Snapshot
    answer: Answer | None
    knee: PointRow | None
    front: list[PointRow]
    points: list[PointRow]
    trials: list[TrialRow]
    confirmed: list[ConfirmedRow]
    progressed: list[Progressed]
    costs: dict[Work, Cost]
    curves: dict[int, list[Curve]]
    networks: list[Network]
    importance: Importance | None
    damaged: list[tuple[str, str]]
    versions: dict[str, tuple[str, ...]]
    reference: Match | None = None

    @property
    def space(self) -> Space:
        """The searched parameters."""
        return self.spec.space


def gather(study: Study, reference: Match | None = None) -> Gathered:
    """Read all that a report shows; what the records do not have is empty."""
    now = study.progress()
    front, points = study.front(), study.points()
    outcomes = [outcome for _, outcome in study.records.trials() if outcome is not None]
    fingerprint = study.records.fingerprint
    shown = front[:: 1 + len(front) // MOST_NETWORKS]
    return Gathered(
        spec=study.spec,
        location=study.records.storage.location,
        created=fingerprint.created,
        data_hash=fingerprint.data_hash,
        data_notes=fingerprint.data_notes,
        class_names=study.class_names,
        now=now,
        answer=study.answer(),
        knee=study.knee(),
        front=front,
        points=points,
        trials=study.trials(),
        confirmed=study.confirmed(),
        progressed=progress_of(study.spec, study.records.trials()),
        costs=costs(outcomes, _seconds_in_stages(study)),
        curves=_curves(study, shown),
        networks=_networks(study, shown),
        importance=_importance(study.spec, study.settled()),
        damaged=_damaged(study),
        versions=_versions(outcomes, points),
        reference=reference,
    )


def _damaged(study: Study) -> list[tuple[str, str]]:
    """Return the files that cannot be read, each with the reason."""
    records = [(each.path, each.reason) for each in study.damaged()]
    return [*records, *((each.path, each.reason) for each in study.damaged_confirmations())]


def kind_of(row: PointRow) -> Kind:
    """Return as what a point is shown."""
    if row.status == "invalid":
        return "invalid"
    if row.tier == "screened":
        return "screened"
    if row.on_front:
        return "flagged" if row.status != "ok" else "front"
    if not row.settled:
        return "unsettled"
    if row.status != "ok":
        return "warned"
    return "dominated" if row.feasible else "infeasible"


def progress_of(spec: StudySpec, trials: Trials) -> list[Progressed]:
    """Return how the hypervolume grew, in the order in which the trials ended."""
    archive, found, epochs, seconds = pareto.Archive(), [], 0, 0.0
    replicated = Replicated(spec.seeds)
    ended = [(trial, outcome) for trial, outcome in trials if outcome is not None]
    ended.sort(key=lambda pair: (pair[1].finished, pair[1].number))
    for count, (trial, outcome) in enumerate(ended, 1):
        epochs, seconds = epochs + _trained(outcome), seconds + outcome.seconds
        for point in replicated.end(trial, outcome):
            if objectives.valid(point, spec) and objectives.feasible(point, spec):
                archive.add(f"{outcome.number}.{point.measure}", objectives.values(point, spec))
        found.append(Progressed(outcome.number, count, epochs, seconds, archive.hypervolume()))
    return found


def _trained(outcome: Outcome) -> int:
    """Return the epochs that a trial is known to have trained itself."""
    points = [point.epochs_trained for point in outcome.points]
    return max([0, *points, *(rung.resource for rung in outcome.rungs)])


def costs(outcomes: Iterable[Outcome], in_stages: float | None = None) -> dict[Work, Cost]:
    """Return what the trials took, by how they ended; complete ones spent the seconds `in_stages` on those."""
    by_state: dict[Work, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_state[outcome.state].append(outcome)
    return {
        state: Cost(
            trials=len(ended),
            epochs=sum(map(_trained, ended)),
            shared=sum(outcome.points[-1].epochs_shared for outcome in ended if outcome.points),
            seconds=(seconds := sum(outcome.seconds for outcome in ended)),
            measuring=max(0.0, seconds - in_stages) if state == "complete" and in_stages is not None else None,
        )
        for state, ended in by_state.items()
    }


def _seconds_in_stages(study: Study) -> float | None:
    """Return the seconds in which complete trials computed their stages; None where not all of these are stored."""
    complete = [
        (trial, outcome) for trial, outcome in study.records.trials() if outcome and outcome.state == "complete"
    ]
    if sum(len(trial.keys) for trial, _ in complete) > MOST_STAGES:
        return None
    stages, seconds = Stages(study.records.storage), 0.0
    for trial, outcome in complete:
        found = [stage for key in trial.keys if (stage := stages.find(key)) is not None]
        own = [stage for stage in found if (stage.study, stage.trial) == (trial.study, trial.number)]
        if sum(stage.epochs for stage in own) != _trained(outcome):
            return None
        seconds += sum(stage.seconds for stage in own)
    return seconds


def _curves(study: Study, front: Sequence[PointRow]) -> dict[int, list[Curve]]:
    trials = dict.fromkeys(row.trial for row in sorted(front, key=lambda row: -row.judged.robust_accuracy))
    return {trial: found for trial in trials if (found := study.curves(trial))}


def _networks(study: Study, front: Sequence[PointRow]) -> list[Network]:
    stages, found, left = Stages(study.records.storage), [], LARGEST_NETWORKS
    for row in front:
        left -= stages.size(row.measured.stage)
        if left < 0:
            break
        layers = _layers(study.records.storage, row.measured.stage)
        if layers:
            found.append(Network(row, layers))
    return found


@lru_cache(maxsize=1024)
def _layers(storage: Storage, stage: str) -> tuple[LayerWeights, ...] | None:
    """Read a network once: a stage never changes, and a page that refreshes itself asks for it again."""
    return Stages(storage).weights_by_layer(stage)


def _importance(spec: StudySpec, points: Sequence[PointRow]) -> Importance | None:
    from search.samplers.optuna.importance import importance

    compared = [
        objectives.values(row.judged, spec) if row.feasible and objectives.valid(row.judged, spec) else None
        for row in points
    ]
    return importance(spec.space, [(row.own_params, values) for row, values in zip(points, compared, strict=True)])


def _versions(outcomes: Sequence[Outcome], points: Sequence[PointRow]) -> dict[str, tuple[str, ...]]:
    """Return what trials ran with, by name; several values where it changed between trials."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        for name, version in outcome.versions.items():
            found[name][version] += 1
        if outcome.host:
            found["host"][outcome.host] += 1
    for row in points:
        found["device"][row.device] += 1
    return {name: tuple(sorted(values)) for name, values in found.items()}
