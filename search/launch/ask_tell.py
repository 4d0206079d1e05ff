"""Optuna behind ask and tell: an in-memory study that is rebuilt from the records, never the other way round.

Every call that changes the study is a plain function of what the records hold, so replaying them in
order gives the study that an uninterrupted search would have, and the sampler of trial n is built anew
from the seed and n. The Optuna study maximises the normalised values of `search.objectives`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from search.launch.cost import Expect, alone
from search.samplers.ehvi.surrogate import worth_keeping
from search.samplers.optuna import SamplerContext
from search.samplers.own import LEARNED, TAUGHT, learned, told
from search.space.parameters import Categorical, FloatRange, IntRange, Parameter, Params, active, holds
from search.study.spec import StudySpec
from trainables.core.rng import derive
from trainables.store.records import State

optuna.logging.set_verbosity(optuna.logging.ERROR)

OBSERVED = "observed_in"
"""User attribute of Optuna trials that are measurements on the way of another; its value is that trial's number."""

_IDLE = optuna.samplers.RandomSampler(seed=0)
_LENT = -1
"""The number under which points of other studies are kept."""

_GENERATION = ":generation"
_PARENTS = ":parent:"


class Sampling:
    """The sampler of one study, asked and told in trial numbers."""

    def __init__(self, spec: StudySpec, expect: Expect = alone) -> None:
        """Start with no trials; `expect` is what samplers are told of the trials that they may suggest."""
        self.spec = spec
        self._expect = expect
        self.outside = 0
        """How many observed points the space could not have produced; the sampler was not told of them."""
        self._points = 0
        self._distributions = {path: distribution(parameter) for path, parameter in spec.space.items()}
        self._begin()
        self._trials: dict[int, list[int]] = {}
        """Optuna's ids by trial number: the trial itself, then what was observed on its way."""

    def _begin(self) -> None:
        self._storage = InMemoryStorage()
        self._study = optuna.create_study(
            study_name=self.spec.name,
            storage=self._storage,
            sampler=_IDLE,
            directions=["maximize"] * len(self.spec.objectives),
        )
        self._id = self._storage.get_study_id_from_name(self.spec.name)

    def ask(self, number: int, given: Mapping[str, Any] | None = None) -> tuple[Params, dict[str, Any]]:
        """Suggest the parameters of trial `number`: the active ones, in the order of the space.

        Where they are `given`, the sampler has no choice. The second result is what `adopt` needs beside them: plain
        data.
        """
        assert number not in self._trials, f"trial {number} was issued already"
        self._forget()
        self._study.sampler = self.spec.sampler.build(SamplerContext(self.spec.seed, number, self.spec, self._expect))
        before = set(self._study_attributes())
        if given is not None:
            self._study.enqueue_trial(dict(given))
        trial = self._study.ask()
        assert trial.relative_params is not None  # A genetic sampler counts a trial once it was asked for these.
        params: Params = {}
        for path, parameter in self.spec.space.items():
            if holds(parameter, params):
                params[path] = _suggest(trial, path, self._distributions[path])
        # Optuna asks a study's sampler again whenever it looks at a trial.
        self._study.sampler = _IDLE
        attributes = self._storage.get_trial(trial._trial_id).system_attrs
        made = {name: value for name, value in self._study_attributes().items() if name not in before}
        self._trials[number] = [trial._trial_id]
        return params, {
            "trial": dict(attributes),
            "parents": {name: self._names(ids) for name, ids in made.items() if _PARENTS in name},
        }

    def adopt(self, number: int, params: Mapping[str, Any], sampler_attrs: Mapping[str, Any]) -> None:
        """Take up a trial that was issued before, by this process or an earlier one, as running."""
        assert number not in self._trials, f"trial {number} was issued already"
        self._forget()
        for name, members in sampler_attrs.get("parents", {}).items():
            self._storage.set_study_system_attr(self._id, name, self._ids(members))
        trial = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=self._of(params),
            system_attrs=dict(sampler_attrs.get("trial", {})),
        )
        self._trials[number] = [self._add(trial)]

    def tell(
        self, number: int, state: State, values: Sequence[float] | None = None, violations: Sequence[float] = ()
    ) -> None:
        """End a trial. Without all values, finite, a complete one counts as failed: no trial runs for ever."""
        trial_id = self._trials[number][0]
        told = self._storage.get_trial(trial_id).number
        trial = Trial(self._study, trial_id)
        if state == "complete" and self._whole(values) and self._judged(violations):
            assert values is not None
            for name, excess in self._constraints(violations).items():
                trial.set_constraint(name, excess)
            trial.set_user_attr(LEARNED, self._learned())
            self._study.tell(told, list(values), state=TrialState.COMPLETE)
        elif state == "stopped":
            trial.set_user_attr("last_values", [float(v) for v in values] if self._whole(values) and values else None)
            self._study.tell(told, state=TrialState.PRUNED)
        else:
            self._study.tell(told, state=TrialState.FAIL)

    def observe(
        self,
        number: int,
        params: Mapping[str, Any],
        values: Sequence[float] | None,
        violations: Sequence[float] = (),
    ) -> bool:
        """Learn a point that was measured on the way of trial `number`, as if it were a trial with `params`.

        Return False, and learn nothing, where the point is not whole or the space could not have produced it.
        """
        issued = self._storage.get_trial(self._trials[number][0]).system_attrs
        # A genetic sampler counts the point to the generation of its trial.
        generation = {name: value for name, value in issued.items() if name.endswith(_GENERATION)}
        trial = self._point(params, values, violations, {OBSERVED: number}, generation)
        if trial is not None:
            self._trials[number].append(self._add(trial))
        return trial is not None

    def teach(
        self, study: str, params: Mapping[str, Any], values: Sequence[float] | None, violations: Sequence[float] = ()
    ) -> bool:
        """Learn a point of another study, before the first trial; return as `observe` does."""
        assert self._trials.keys() <= {_LENT}, "the other studies come first"
        trial = self._point(params, values, violations, {TAUGHT: study}, {})
        if trial is not None:
            self._trials.setdefault(_LENT, []).append(self._add(trial))
        return trial is not None

    def _point(
        self,
        params: Mapping[str, Any],
        values: Sequence[float] | None,
        violations: Sequence[float],
        source: dict[str, Any],
        attributes: dict[str, Any],
    ) -> FrozenTrial | None:
        """Return a measured point as a trial of its own, None for one that cannot be taught."""
        known = active(self.spec.space, params)
        if known is None:
            self.outside += 1
            return None
        if not self._whole(values) or not self._judged(violations):
            return None
        assert values is not None
        return create_trial(
            state=TrialState.COMPLETE,
            values=list(values),
            params=known,
            distributions=self._of(known),
            user_attrs={**source, LEARNED: self._learned()},
            system_attrs=attributes,
            constraints=self._constraints(violations),
        )

    def _learned(self) -> int:
        """Return the place of one more point among all that were learned."""
        self._points += 1
        return self._points

    def _forget(self) -> None:
        """Begin a smaller study where the sampler has been taught twice what it is to see."""
        most = self.spec.sampler.most
        if most is None:
            return
        trials = self._storage.get_all_trials(self._id, deepcopy=False)
        complete = learned(trials)
        if len(complete) < 2 * most:
            return
        draw = np.random.default_rng(derive(self.spec.seed, "forget", len(trials)))
        rows = worth_keeping(told(complete, self._study, list(self.spec.bounds())), most, most // 4, draw)
        unsuccessful = [trial for trial in trials if trial.state in (TrialState.FAIL, TrialState.PRUNED)][-most // 4 :]
        kept = {complete[row].number for row in rows} | {trial.number for trial in unsuccessful}
        names = {trial_id: number for number, own in self._trials.items() for trial_id in own}
        self._begin()
        self._trials = {}
        for trial in trials:
            if trial.number in kept or trial.state == TrialState.RUNNING:
                self._trials.setdefault(names[trial._trial_id], []).append(self._add(trial))

    def _add(self, trial: FrozenTrial) -> int:
        self._study.add_trial(trial)
        return self._storage.get_all_trials(self._id, deepcopy=False)[-1]._trial_id

    def _of(self, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        return {path: self._distributions[path] for path in params}

    def _whole(self, values: Sequence[float] | None) -> bool:
        if values is None:
            return False
        assert len(values) == len(self.spec.objectives), (
            f"{len(values)} values for {len(self.spec.objectives)} objectives"
        )
        return all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)

    def _judged(self, violations: Sequence[float]) -> bool:
        bounds = len(self.spec.bounds())
        assert len(violations) in (0, bounds), f"{len(violations)} violations do not fit the study"
        return len(violations) == bounds and not any(map(math.isnan, violations))

    def _constraints(self, violations: Sequence[float]) -> dict[str, float]:
        return dict(zip(self.spec.bounds(), violations, strict=True))

    def _study_attributes(self) -> dict[str, Any]:
        return self._storage.get_study_system_attrs(self._id)

    def _names(self, ids: Sequence[int]) -> list[list[int]]:
        """Write Optuna's ids, which depend on the process, as trial number and index."""
        names = {
            trial_id: [number, index] for number, own in self._trials.items() for index, trial_id in enumerate(own)
        }
        return [names[trial_id] for trial_id in ids]

    def _ids(self, names: Sequence[Sequence[int]]) -> list[int]:
        known = self._trials
        return [known[n][index] for n, index in names if n in known and index < len(known[n])]


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
