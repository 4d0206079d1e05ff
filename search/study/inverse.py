"""The parameters of a space with which a study would run a trial that somebody else ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from search.space.parameters import Categorical, Parameter, Params, active, holds, numbers
from search.study.spec import StudySpec
from trainables.core.errors import SpecError
from trainables.core.spec import plain
from trainables.recipes.trial import TrialSpec


def params_of(study: StudySpec, trial: Mapping[str, Any], given: Mapping[str, Any]) -> Params | None:
    """Return the parameters with which `study` would train and prune as a trial does, None where there are none.

    `trial` is a whole trial as plain data; `given` are parameters by which it may be known, tried before what
    stands in it.
    """
    params: Params = {}
    for path, parameter in study.space.items():
        if not holds(parameter, params):
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
    """Return the parameters of one of the study's own trials with what its space has been extended by since.

    None where the space does not hold the trial.
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
    """Yield the values of a parameter that may stand for what a trial has at its path."""
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
    """Say whether two values are one number, however written."""
    both = numbers([choice, value])
    return both is not None and both[0] == both[1]
