"""What a trial would measure, and how many epochs it would cost, given what is stored or under way.

Pure and cheap: a sampler asks it for hundreds of candidates per suggestion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from search.space import Parameter, Params, holds
from trainables.base import Spec
from trainables.keys import key
from trainables.outcome import Outcome, TrialRecord
from trainables.phases import Learning, Measure
from trainables.spec import TrialSpec, steps

if TYPE_CHECKING:
    from search.study_spec import StudySpec

SPARSITY_PATH = "recipe.sparsity"
"""The parameter that says how sparse a trial's last network is to be."""

_NEW = ""
"""Stands for the key of everything that has to be computed: its name is of no interest, and costs a hash."""
_MOST = 4096
"""How many trials and keys are kept from one question to the next."""


@dataclass(frozen=True)
class Expectation:
    """What a trial would do, by its measurements in order.

    `points` are the parameters that each stands for, as the sampler is taught it (what stands for none is left out);
    `epochs` what has to be trained up to it, all told (stages that are stored or under way cost nothing); `known`
    whether the measurement itself is stored or under way.
    """

    points: tuple[Params, ...]
    epochs: tuple[int, ...]
    known: tuple[bool, ...]


Expect = Callable[[Params], Expectation]


def alone(params: Params) -> Expectation:
    """Expect one new point for one epoch, where nothing is known of what trials do."""
    return Expectation((dict(params),), (1,), (False,))


def taught_as(
    space: Mapping[str, Parameter],
    params: Mapping[str, Any],
    stands_for: Mapping[str, Any],
    fixed: Callable[[str], Any],
) -> Params | None:
    """Return the parameters of the trial of which a measurement would have been the last.

    None where the study has no such trial: it would differ in a field of the recipe that is not searched, and that is
    `fixed` at another value, or have a parameter more.
    """
    stood_for = {f"recipe.{name}": value for name, value in stands_for.items()}
    if any(f"recipe.{name}" not in params and fixed(name) != value for name, value in stands_for.items()):
        return None
    kept: Params = {}
    for path, parameter in space.items():
        if holds(parameter, kept):
            if path not in params:
                return None
            kept[path] = stood_for.get(path, params[path])
    return kept


class Expectations:
    """What the trials of one study would do. It grows with the trials that are issued or adopted."""

    def __init__(self, spec: StudySpec, fingerprint: str) -> None:
        """Begin without a trial; `fingerprint` is the hash of the data."""
        self._spec = spec
        self._fingerprint = fingerprint
        self._known: Counter[str] = Counter()
        self._trials: dict[tuple[Any, ...], TrialSpec] = {}
        self._keys: dict[tuple[Any, ...], str] = {}

    def store(self, keys: Iterable[str]) -> None:
        """Take note of stages that other studies have stored, as far as is known."""
        self._known.update(keys)

    def issue(self, record: TrialRecord) -> None:
        """Take note of a trial that will compute its stages."""
        self._known.update(record.keys)

    def end(self, record: TrialRecord, outcome: Outcome) -> None:
        """Take note of how a trial ended: one that broke off left what it had measured, and nothing after."""
        if outcome.state == "complete":
            return
        measured = [record.keys.index(point.key) for point in outcome.points if point.key in record.keys]
        self._known.subtract(record.keys[max(measured, default=-1) + 1 :])

    def of(self, params: Params) -> Expectation:
        """Say what a trial with these parameters would do.

        Raises:
            SpecError: no trial can have them.
        """
        points, epochs, known = [], [], []
        trained = 0
        trial = self._trial(params)
        for step in steps(trial, self._fingerprint, self._key):
            if isinstance(step.phase, Learning) and step.key == _NEW:
                trained += step.phase.length
            elif isinstance(step.phase, Measure):
                point = taught_as(self._spec.space, params, step.phase.stands_for, partial(getattr, trial.recipe))
                if point is not None:
                    points.append(point)
                    epochs.append(trained)
                    known.append(step.key != _NEW)
        return Expectation(tuple(points), tuple(epochs), tuple(known))

    def _trial(self, params: Params) -> TrialSpec:
        """Return the trial; for one that differs from an earlier one in sparsity alone, without validating it again."""
        sparsity = params.get(SPARSITY_PATH)
        rest = tuple((path, type(value), value) for path, value in params.items() if path != SPARSITY_PATH)
        if rest not in self._trials:
            _make_room(self._trials)
            self._trials[rest] = self._spec.trial(params)
        trial = self._trials[rest]
        if sparsity is None or sparsity == trial.recipe.sparsity:
            return trial
        recipe = trial.recipe.model_copy(update={"sparsity": float(sparsity)})
        return trial.model_copy(update={"recipe": recipe})

    def _key(self, phase: Spec, parent: str | None, **inputs: Any) -> str:
        """Return the key of a phase that is stored or under way, else `_NEW`; after a new stage all is new."""
        if parent == _NEW:
            return _NEW
        asked = (parent, type(phase), phase.model_dump_json(serialize_as_any=True))
        if asked not in self._keys:
            _make_room(self._keys)
            self._keys[asked] = key(phase, parent, **inputs)
        found = self._keys[asked]
        return found if self._known[found] > 0 else _NEW


def _make_room(memory: dict[Any, Any]) -> None:
    """Forget the older half where a memory is full."""
    if len(memory) >= _MOST:
        for old in list(memory)[: _MOST // 2]:
            del memory[old]
