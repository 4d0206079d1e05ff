"""Forecasts: what a trial would measure, and how many epochs it would train, given the stages that are stored.

Pure and cheap: a sampler asks for hundreds of them per suggestion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from search.samplers.base import Forecast
from search.space.parameters import SPARSITY_PATH, Parameter, Params, active, identity, is_active, standing_for
from search.study.spec import StudySpec
from trainables.core.keys import key
from trainables.method.phases import EpochPhase, Measure, Phase
from trainables.recipes.trial import TrialSpec, keyed_phases
from trainables.store.records import Outcome, TrialRecord

_MOST = 4096
"""How many trials and keys are cached."""
_MOST_CHAINS = 1024
"""How many trials are cached with all their phases."""


def params_measured(
    space: Mapping[str, Parameter],
    params: Mapping[str, Any],
    stands_for: Mapping[str, Any],
    fixed: Callable[[str], Any],
) -> Params | None:
    """Return the parameters of the trial that would end with a measurement made on the way of another.

    `params` are those of the trial that measures, `stands_for` are the fields of the recipe in which the two differ.
    None where the study has no such trial: it would differ in a field of the recipe that is not searched and is
    `fixed` at another value, or have a parameter more.
    """
    if any(f"recipe.{name}" not in params and fixed(name) != value for name, value in stands_for.items()):
        return None
    standing = standing_for(params, stands_for)
    measured: Params = {}
    for path, parameter in space.items():
        if is_active(parameter, measured):
            if path not in params:
                return None
            measured[path] = standing[path]
    return measured


@dataclass
class _Link:
    """A phase of a trial: the inputs of its key, the index of the link before, and the parameters it stands for.

    `before` is None for the first link, `point` where it stands for no trial; `key` is computed once it is needed.
    """

    phase: Phase
    inputs: Mapping[str, Any]
    before: int | None
    point: Params | None
    key: str | None = None

    def __post_init__(self) -> None:
        self.measures = isinstance(self.phase, Measure)
        self.length = self.phase.length if isinstance(self.phase, EpochPhase) else 0


@dataclass
class _Chain:
    """The phases of a trial, and its forecasts so far by which of its first stages are stored."""

    links: list[_Link]
    forecasts: dict[tuple[bool, ...], Forecast] = field(default_factory=dict)

    def forecast(self, stored: tuple[bool, ...]) -> Forecast:
        """Return the forecast where these of the first stages are stored, and none of the others."""
        if stored not in self.forecasts:
            points, epochs, known = [], [], []
            trained = 0
            for at, link in enumerate(self.links):
                ready = at < len(stored) and stored[at]
                trained += 0 if ready else link.length
                if link.point is not None:
                    points.append(link.point)
                    epochs.append(trained)
                    known.append(ready)
            self.forecasts[stored] = Forecast(tuple(points), tuple(epochs), tuple(known))
        return self.forecasts[stored]


class Forecasts:
    """Forecasts of the trials of one study. They change with every trial that is issued or adopted."""

    def __init__(self, spec: StudySpec, fingerprint: str) -> None:
        """Start without a trial; `fingerprint` is the hash of the data."""
        self._spec = spec
        self._fingerprint = fingerprint
        self._stored: Counter[str] = Counter()
        self._trials: dict[tuple[Any, ...], TrialSpec] = {}
        self._chains: dict[tuple[Any, ...], _Chain] = {}
        self._keys: dict[tuple[Any, ...], str] = {}

    def store(self, keys: Iterable[str]) -> None:
        """Count stages that other studies have stored as stored."""
        self._stored.update(keys)

    def issue(self, record: TrialRecord) -> None:
        """Count the stages of an issued trial as stored: it computes them."""
        self._stored.update(record.keys)

    def end(self, record: TrialRecord, outcome: Outcome) -> None:
        """Take back the stages that an ended trial did not compute: those after its last measurement."""
        if outcome.state == "complete":
            return
        measured = [record.keys.index(point.key) for point in outcome.points if point.key in record.keys]
        self._stored.subtract(record.keys[max(measured, default=-1) + 1 :])

    def of(self, params: Params) -> Forecast:
        """Return the forecast of a trial with these parameters.

        Raises:
            SpecError: no trial can have them.
        """
        chain = self._chain(params)
        stored: list[bool] = []
        for link in chain.links:
            stored.append(self._stored[self._key(link, chain.links)] > 0)
            # After a new stage all is new, and its key, which costs a hash, is not needed.
            if not stored[-1] and not link.measures:
                break
        return chain.forecast(tuple(stored))

    def _chain(self, params: Params) -> _Chain:
        """Return the phases of a trial, which depend on nothing that is stored."""
        named = identity(params)
        if named not in self._chains:
            trial = self._trial(params)
            links: list[_Link] = []

            def link(phase: Phase, parent: str | None, **inputs: Any) -> str:
                links.append(_Link(phase, inputs, int(parent) if parent else None, self._point(params, trial, phase)))
                return str(len(links) - 1)

            keyed_phases(trial, self._fingerprint, link)
            _make_room(self._chains, _MOST_CHAINS)
            self._chains[named] = _Chain(links)
        return self._chains[named]

    def _point(self, params: Params, trial: TrialSpec, phase: Phase) -> Params | None:
        """Return the trial of the space that a measurement stands for; None for all else, such as one in a training."""
        if not isinstance(phase, Measure) or phase.epoch is not None:
            return None
        point = params_measured(self._spec.space, params, phase.stands_for, partial(getattr, trial.recipe))
        return point if point is not None and active(self._spec.space, point) == point else None

    def _trial(self, params: Params) -> TrialSpec:
        """Return the trial; one that differs from an earlier one only in sparsity is not validated again."""
        sparsity = params.get(SPARSITY_PATH)
        rest = identity({path: value for path, value in params.items() if path != SPARSITY_PATH})
        if rest not in self._trials:
            _make_room(self._trials, _MOST)
            self._trials[rest] = self._spec.trial(params)
        trial = self._trials[rest]
        if sparsity is None or sparsity == trial.recipe.sparsity:
            return trial
        recipe = trial.recipe.model_copy(update={"sparsity": float(sparsity)})
        return trial.model_copy(update={"recipe": recipe})

    def _key(self, link: _Link, links: Sequence[_Link]) -> str:
        """Return the key of a link; those before it have one."""
        if link.key is None:
            parent = None if link.before is None else links[link.before].key
            named = (parent, type(link.phase), link.phase.model_dump_json(serialize_as_any=True))
            if named not in self._keys:
                _make_room(self._keys, _MOST)
                self._keys[named] = key(link.phase, parent, **link.inputs)
            link.key = self._keys[named]
        return link.key


def _make_room(cache: dict[Any, Any], most: int) -> None:
    """Drop the older half of a cache that is full."""
    if len(cache) >= most:
        for old in list(cache)[: most // 2]:
            del cache[old]
