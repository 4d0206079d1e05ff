"""A search as an Optuna study in an SQLite file, for Optuna's own tools. Importing this module loads Optuna."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.samplers.optuna.study import distribution
from search.space.parameters import Parameter

_STATES = {
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
    "waiting": TrialState.WAITING,
}
_DIRECTIONS = {"maximise": StudyDirection.MAXIMIZE, "minimise": StudyDirection.MINIMIZE}
_CONSTRAINT = "constraints"
"""What the attributes are named after in which Optuna keeps constraints, which optuna-dashboard reads in this form."""


@dataclass(frozen=True)
class StoredTrial:
    """A trial as Optuna is to show it.

    `values` are those of the objectives, None where it has none; `violations` are by name, met at 0 and below;
    `intermediate` are by epoch. Times are ISO 8601. Parameters that the space could not have produced are left out.
    """

    state: Literal["complete", "stopped", "failed", "running", "waiting"]
    params: Mapping[str, Any]
    values: tuple[float, ...] | None
    violations: Mapping[str, float]
    intermediate: Mapping[int, float]
    attributes: Mapping[str, Any]
    started: str | None
    finished: str | None


def write_database(
    path: Path,
    name: str,
    directions: Mapping[str, Literal["maximise", "minimise"]],
    space: Mapping[str, Parameter],
    trials: Iterable[StoredTrial],
    attributes: Mapping[str, Any],
) -> None:
    """Write a new SQLite file with one study. Trials are numbered in their order, from 0.

    Raises:
        OSError: the file cannot be written.
    """
    storage = RDBStorage(f"sqlite:///{path}")
    wanted = [_DIRECTIONS[direction] for direction in directions.values()]
    study = optuna.create_study(storage=storage, study_name=name, directions=wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(directions))
    for key, value in attributes.items():
        study.set_user_attr(key, value)
    for number, trial in enumerate(trials):
        storage.create_new_trial(study._study_id, template_trial=_frozen(number, trial, space))
    storage.engine.dispose()


def _frozen(number: int, trial: StoredTrial, space: Mapping[str, Parameter]) -> FrozenTrial:
    known = {path: value for path, value in trial.params.items() if path in space and space[path].contains(value)}
    state = _STATES[trial.state]
    violations = trial.violations if state is TrialState.COMPLETE else {}
    frozen = FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=None,
        values=list(trial.values) if trial.values is not None and state.is_finished() else None,
        datetime_start=_local(trial.started),
        datetime_complete=_local(trial.finished) if state.is_finished() else None,
        params=known,
        distributions={path: distribution(space[path]) for path in known},
        user_attrs=dict(trial.attributes),
        system_attrs={_CONSTRAINT: list(violations.values())} if violations else {},
        intermediate_values=dict(trial.intermediate),
    )
    for constraint, violation in violations.items():
        frozen.set_constraint(constraint, violation)
    frozen._validate()
    return frozen


def _local(iso: str | None) -> datetime | None:
    """Return a time in the zone of this machine, without naming it, as Optuna keeps times."""
    if iso is None:
        return None
    moment = datetime.fromisoformat(iso)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone().replace(tzinfo=None)
