"""An Optuna study that follows an `ObservationStore`: what Optuna's samplers read and write.

It is a cache, extended at each suggestion by what is new. The study maximises the normalised values of
`search.objectives`. Importing this module loads Optuna.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from search.objectives.problem import SearchProblem
from search.samplers.base import SamplerContext, Suggestion
from search.samplers.observations import Observation, ObservationStore
from search.space.parameters import Categorical, FloatRange, IntRange, Parameter, Params, canonical_value, is_active

optuna.logging.set_verbosity(optuna.logging.ERROR)

_IDLE = optuna.samplers.RandomSampler(seed=0)
_STATES = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
"""Samplers do not see trials that failed; see `_as_worst`."""
_GENERATION = ":generation"
_PARENTS = ":parent:"
_TRANSFERRED = -1
"""Stands for the trial number of points of other studies."""


class OptunaStudy:
    """An Optuna study with a trial for each observation, in the order in which they were added."""

    def __init__(self, problem: SearchProblem) -> None:
        """Start with no trials."""
        self.problem = problem
        self._distributions = {path: distribution(parameter) for path, parameter in problem.space.items()}
        self._bounds = list(problem.bounds())
        self._storage = InMemoryStorage()
        self.study = optuna.create_study(
            storage=self._storage, sampler=_IDLE, directions=["maximize"] * len(problem.objectives)
        )
        self._read = 0
        self._ids: list[int] = []
        """Optuna's id of each observation."""
        self._names: dict[int, tuple[int, int]] = {}
        """Trial number of each of Optuna's ids, and its index among the observations of that trial."""
        self._of_trial: Counter[int] = Counter()
        self._asked: tuple[int, int] | None = None
        """Number and Optuna's id of a trial that was suggested and is not among the observations yet."""

    def follow(self, observations: ObservationStore) -> bool:
        """Read what is new; return False where the study has a trial that was never observed."""
        for index in observations.changes[self._read :]:
            row = observations[index]
            if index == len(self._ids) and not self._append(row):
                return False
            self._end(self._ids[index], row if row.state != "failed" else _as_worst(row, observations))
        self._read = len(observations.changes)
        return self._asked is None

    def ask(self, sampler: BaseSampler, number: int, given: Params | None = None) -> Suggestion:
        """Let an Optuna sampler suggest trial `number`; with `given` it only takes note of these parameters."""
        self.study.sampler = sampler
        before = set(self._attributes())
        if given is not None:
            self.study.enqueue_trial(dict(given))
        trial = self.study.ask()
        assert trial.relative_params is not None  # A genetic sampler counts a trial once it was asked for these.
        params: Params = {}
        for path, parameter in self.problem.space.items():
            if is_active(parameter, params):
                params[path] = canonical_value(parameter, _suggest(trial, path, self._distributions[path]))
                # Of a grid Optuna has other floats: the study is to hold what a study made from the records would.
                domain = self._distributions[path]
                self._storage.set_trial_param(trial._trial_id, path, domain.to_internal_repr(params[path]), domain)
        # Optuna asks a study's sampler again whenever it looks at a trial.
        self.study.sampler = _IDLE
        self._asked = (number, trial._trial_id)
        attributes = self._storage.get_trial(trial._trial_id).system_attrs
        parents = {key: ids for key, ids in self._attributes().items() if key not in before and _PARENTS in key}
        return Suggestion(
            params,
            {
                "trial": dict(attributes),
                # Optuna's ids depend on the process.
                "parents": {key: [list(self._names[trial_id]) for trial_id in ids] for key, ids in parents.items()},
            },
        )

    def _append(self, row: Observation) -> bool:
        """Add the trial of a new observation, unless `ask` has added it."""
        number = _TRANSFERRED if row.trial is None else row.trial
        if self._asked is None:
            if row.origin == "own":
                self._restore_parents(row.attributes.get("parents", {}))
            trial_id = self._storage.create_new_trial(self.study._study_id, template_trial=self._frozen(row))
        elif row.origin == "own" and self._asked[0] == number:
            trial_id = self._asked[1]
            self._asked = None
        else:
            return False
        self._names[trial_id] = (number, self._of_trial[number])
        self._of_trial[number] += 1
        self._ids.append(trial_id)
        return True

    def _frozen(self, row: Observation) -> FrozenTrial:
        """Return an observation as a trial: a complete one with its values, any other as running."""
        attributes = row.attributes.get("trial", {})
        if row.origin != "own":
            # A genetic sampler counts the point to the generation of its trial.
            attributes = {key: value for key, value in attributes.items() if key.endswith(_GENERATION)}
        complete = row.state == "complete"
        return create_trial(
            state=TrialState.COMPLETE if complete else TrialState.RUNNING,
            values=list(row.values) if complete else None,
            params=dict(row.params),
            distributions={path: self._distributions[path] for path in row.params},
            system_attrs=dict(attributes),
            constraints=self._constraints(row) if complete else None,
        )

    def _end(self, trial_id: int, row: Observation) -> None:
        """End a running trial as its observation has ended."""
        if row.state == "running" or self._storage.get_trial(trial_id).state.is_finished():
            return
        complete = row.state == "complete"
        if complete:
            trial = Trial(self.study, trial_id)
            for name, violation in self._constraints(row).items():
                trial.set_constraint(name, violation)
        number = self._storage.get_trial_number_from_id(trial_id)
        self.study.tell(number, list(row.values) if complete else None, state=_STATES[row.state])

    def _constraints(self, row: Observation) -> dict[str, float]:
        return dict(zip(self._bounds, row.violations, strict=True))

    def _attributes(self) -> dict[str, Any]:
        return self._storage.get_study_system_attrs(self.study._study_id)

    def _restore_parents(self, parents: Mapping[str, Sequence[Sequence[int]]]) -> None:
        """Restore which trials a genetic sampler chose as parents of a generation."""
        if parents:
            ids = {name: trial_id for trial_id, name in self._names.items()}
            for key, members in parents.items():
                known = [ids[number, index] for number, index in members if (number, index) in ids]
                self._storage.set_study_system_attr(self.study._study_id, key, known)


def _as_worst(row: Observation, observations: ObservationStore) -> Observation:
    """Return a failed trial as one that measured the worst of what was learned before; as it is where that is nothing.

    Samplers of Optuna ignore failed trials, and would go on to suggest their like.
    """
    before = [known for known in observations.learned() if (known.order or 0) <= (row.order or 0)]
    if not before:
        return row
    values = tuple(map(min, zip(*(known.values for known in before), strict=True)))
    violations = tuple(map(max, zip(*(known.violations for known in before), strict=True)))
    return replace(row, state="complete", values=values, violations=violations)


_STUDIES: WeakKeyDictionary[ObservationStore, OptunaStudy] = WeakKeyDictionary()


def optuna_study(context: SamplerContext) -> OptunaStudy:
    """Return the Optuna study of a search, extended by all that was observed since it was last asked for."""
    study = _STUDIES.get(context.observations)
    if study is None or study.problem != context.problem or not study.follow(context.observations):
        study = _STUDIES[context.observations] = OptunaStudy(context.problem)
        study.follow(context.observations)
    return study


def distribution(parameter: Parameter) -> BaseDistribution:
    """Return Optuna's form of a parameter."""
    if isinstance(parameter, FloatRange):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    if isinstance(parameter, IntRange):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step or 1)
    assert isinstance(parameter, Categorical)
    return CategoricalDistribution(parameter.choices)


def _suggest(trial: Trial, path: str, domain: BaseDistribution) -> Any:
    if isinstance(domain, FloatDistribution):
        return trial.suggest_float(path, domain.low, domain.high, log=domain.log, step=domain.step)
    if isinstance(domain, IntDistribution):
        return trial.suggest_int(path, domain.low, domain.high, log=domain.log, step=domain.step)
    assert isinstance(domain, CategoricalDistribution)
    return trial.suggest_categorical(path, domain.choices)
