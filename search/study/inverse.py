"""From a trial to parameters: those of a space with which a study would run the same trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from search.space.parameters import Categorical, Parameter, Params, active, is_active, numbers
from search.study.spec import StudySpec
from trainables.core.errors import SpecError
from trainables.core.spec import plain
from trainables.recipes.trial import TrialSpec


def params_of(study: StudySpec, trial: Mapping[str, Any], given: Mapping[str, Any]) -> Params | None:
    """Return the parameters with which `study` would train and prune as a trial does; None where there are none.

    `trial` is a trial as plain data; `given` are parameters that it may have had, which are tried before its fields.
    """
    params: Params = {}
    for path, parameter in study.space.items():
        if not is_active(parameter, params):
            continue
        value = next(_fitting(parameter, path, trial, given), _NOTHING)
        if value is _NOTHING:
            return None
        params[path] = value
    try:
        ours, theirs = study.trial(params), TrialSpec.model_validate(trial)
    except (SpecError, ValueError):
        return None
    return params if _work(ours) == _work(theirs) else None


def completed(study: StudySpec, params: Params) -> Params | None:
    """Return the parameters of one of the study's own trials, with those by which the space was extended since.

    None where no trial of the space is this one.
    """
    if active(study.space, params) == params:
        return params
    try:
        return params_of(study, plain(study.trial(params)), params)
    except SpecError:
        return None


_NOTHING: Any = object()


def _work(trial: TrialSpec) -> Any:
    return plain(trial.model, hashed=True), plain(trial.recipe, hashed=True)


def _fitting(parameter: Parameter, path: str, trial: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the values of a parameter that may stand for the field of a trial at its path."""
    for value in (given.get(path, _NOTHING), _at(trial, path)):
        if value is _NOTHING:
            continue
        for written in _written(value):
            if parameter.contains(written):
                yield written
            elif isinstance(parameter, Categorical):
                yield from (choice for choice in parameter.choices if _same(choice, written))


def _at(trial: Any, path: str) -> Any:
    for part in path.split("."):
        trial = trial.get(part, _NOTHING) if isinstance(trial, Mapping) else _NOTHING
    return trial


def _written(value: Any) -> Iterator[Any]:
    """Yield the ways to write a value: as it is, a mapping as its kind, or as the one field beside it."""
    if not isinstance(value, Mapping):
        yield value
        return
    yield value.get("kind")
    fields = [field for name, field in value.items() if name != "kind"]
    if len(fields) == 1:
        yield fields[0]


def _same(choice: Any, value: Any) -> bool:
    """Return whether two values are one number, however written."""
    both = numbers([choice, value])
    return both is not None and both[0] == both[1]
