"""What a trial would measure, and how many epochs it would cost, given what is stored or under way.

Pure and cheap: a sampler asks it for hundreds of candidates per suggestion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from search.space.parameters import Parameter, Params, active, holds, name
from trainables.core.keys import key
from trainables.method.phases import EpochPhase, Measure, Phase
from trainables.recipes.trial import TrialSpec, keyed_phases
from trainables.store.records import Outcome, TrialRecord

if TYPE_CHECKING:
    from search.study.spec import StudySpec

SPARSITY_PATH = "recipe.sparsity"
"""The parameter that says how sparse a trial's last network is to be."""

_MOST = 4096
"""How many trials and keys are kept from one question to the next."""
_MOST_COURSES = 1024
"""How many trials are kept with all their phases."""


@dataclass(frozen=True)
class Forecast:
    """What a trial would do, by its measurements in order.

    `points` are the parameters that each stands for, as the sampler is taught it (what stands for none that the space
    could have produced is left out); `epochs` what has to be trained up to it, all told (stages that are stored or
    under way cost nothing); `known` whether the measurement itself is stored or under way.
    """

    points: tuple[Params, ...]
    epochs: tuple[int, ...]
    known: tuple[bool, ...]

    @cached_property
    def names(self) -> tuple[tuple[Any, ...], ...]:
        """What tells the points apart."""
        return tuple(name(point) for point in self.points)


Expect = Callable[[Params], Forecast]


def alone(params: Params) -> Forecast:
    """Expect one new point for one epoch, where nothing is known of what trials do."""
    return Forecast((dict(params),), (1,), (False,))


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


@dataclass
class _Link:
    """A phase of a trial: what names its result, after which link it comes, and the parameters it stands for.

    `before` is None for the first link, `point` where it stands for no trial; `key` is filled in once somebody asks.
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
class _Course:
    """The phases of a trial, and what was said of it before, by what of them was there."""

    links: list[_Link]
    said: dict[tuple[bool, ...], Forecast] = field(default_factory=dict)

    def where(self, held: tuple[bool, ...]) -> Forecast:
        """Say what the trial would do where so much of its first links is there, and nothing of the others."""
        if held not in self.said:
            points, epochs, known = [], [], []
            trained = 0
            for at, link in enumerate(self.links):
                here = at < len(held) and held[at]
                trained += 0 if here else link.length
                if link.point is not None:
                    points.append(link.point)
                    epochs.append(trained)
                    known.append(here)
            self.said[held] = Forecast(tuple(points), tuple(epochs), tuple(known))
        return self.said[held]


class Forecasts:
    """What the trials of one study would do. It grows with the trials that are issued or adopted."""

    def __init__(self, spec: StudySpec, fingerprint: str) -> None:
        """Begin without a trial; `fingerprint` is the hash of the data."""
        self._spec = spec
        self._fingerprint = fingerprint
        self._known: Counter[str] = Counter()
        self._trials: dict[tuple[Any, ...], TrialSpec] = {}
        self._courses: dict[tuple[Any, ...], _Course] = {}
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

    def of(self, params: Params) -> Forecast:
        """Say what a trial with these parameters would do.

        Raises:
            SpecError: no trial can have them.
        """
        course = self._course(params)
        held: list[bool] = []
        for link in course.links:
            held.append(self._known[self._key(link, course.links)] > 0)
            # After a new stage all is new, and its key, which costs a hash, is of no interest.
            if not held[-1] and not link.measures:
                break
        return course.where(tuple(held))

    def _course(self, params: Params) -> _Course:
        """Return the phases of a trial, which depend on nothing that is stored."""
        asked = name(params)
        if asked not in self._courses:
            trial = self._trial(params)
            links: list[_Link] = []

            def named(phase: Phase, parent: str | None, **inputs: Any) -> str:
                links.append(_Link(phase, inputs, int(parent) if parent else None, self._point(params, trial, phase)))
                return str(len(links) - 1)

            keyed_phases(trial, self._fingerprint, named)
            _make_room(self._courses, _MOST_COURSES)
            self._courses[asked] = _Course(links)
        return self._courses[asked]

    def _point(self, params: Params, trial: TrialSpec, phase: Phase) -> Params | None:
        """Return the trial of the space that a measurement stands for; None for any other phase."""
        if not isinstance(phase, Measure):
            return None
        point = taught_as(self._spec.space, params, phase.stands_for, partial(getattr, trial.recipe))
        return point if point is not None and active(self._spec.space, point) == point else None

    def _trial(self, params: Params) -> TrialSpec:
        """Return the trial; for one that differs from an earlier one in sparsity alone, without validating it again."""
        sparsity = params.get(SPARSITY_PATH)
        rest = name({path: value for path, value in params.items() if path != SPARSITY_PATH})
        if rest not in self._trials:
            _make_room(self._trials, _MOST)
            self._trials[rest] = self._spec.trial(params)
        trial = self._trials[rest]
        if sparsity is None or sparsity == trial.recipe.sparsity:
            return trial
        recipe = trial.recipe.model_copy(update={"sparsity": float(sparsity)})
        return trial.model_copy(update={"recipe": recipe})

    def _key(self, link: _Link, links: Sequence[_Link]) -> str:
        """Return the key of a link; those before have theirs."""
        if link.key is None:
            parent = None if link.before is None else links[link.before].key
            asked = (parent, type(link.phase), link.phase.model_dump_json(serialize_as_any=True))
            if asked not in self._keys:
                _make_room(self._keys, _MOST)
                self._keys[asked] = key(link.phase, parent, **link.inputs)
            link.key = self._keys[asked]
        return link.key


def _make_room(memory: dict[Any, Any], most: int) -> None:
    """Forget the older half where a memory is full."""
    if len(memory) >= most:
        for old in list(memory)[: most // 2]:
            del memory[old]
