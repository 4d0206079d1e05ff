"""Trials that the study file names: one by one, or as every combination of lists of values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from search.files.diagnostics import shown
from search.space.parameters import (
    MAX_CHOICES,
    Params,
    Scalar,
    Space,
    canonical_value,
    combinations,
    identity,
    is_active,
)
from search.study.space_check import PlainTrial, Problem, naming, sets, trial_problems
from trainables.core.registry import nearest

MAX_ENQUEUED = 1000
"""How many trials may be enqueued."""

Enqueued = dict[str, Scalar | Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=MAX_CHOICES)]]
"""Values by dotted path; a list stands for each of its values."""


def is_product(given: Mapping[str, Any]) -> bool:
    """Return whether an item of `enqueue` stands for all combinations of its values."""
    return any(isinstance(value, (list, tuple)) for value in given.values())


def expanded(space: Space, given: Mapping[str, Any]) -> Iterator[Params]:
    """Yield the parameters of the trials that an item of `enqueue` stands for, in the order of the space.

    A combination leaves out parameters that are not active in it.
    """
    values = {
        path: [canonical_value(space[path], one) for one in (value if isinstance(value, (list, tuple)) else [value])]
        for path, value in given.items()
        if path in space
    }
    if is_product(given):
        yield from combinations(space, values)
    else:
        yield {path: values[path][0] for path in space if path in values}


def wrong_enqueued(space: Space, enqueue: Sequence[Mapping[str, Any]], plain_trial: PlainTrial) -> Iterator[Problem]:
    """Check that each enqueued trial names the parameters that it has, with values of the space, and can run."""
    count, seen = 0, set()
    for index, given in enumerate(enqueue):
        trials = list(itertools.islice(expanded(space, given), MAX_ENQUEUED + 1))
        count += len(trials)
        if count > MAX_ENQUEUED:
            yield ("enqueue", index), f"these are more than {MAX_ENQUEUED:,} trials in all; make lists shorter"
            return
        yield from _wrong_product(space, given, trials, index) if is_product(given) else ()
        messages: set[str] = set()
        for params in trials:
            wrong = list(_wrong_trial(space, params if is_product(given) else given, plain_trial))
            if not wrong and identity(params) in seen:
                wrong = [((), "these are the parameters of an earlier one")]
            seen.add(identity(params))
            for at, message in wrong:
                if message not in messages:
                    messages.add(message)
                    yield ("enqueue", index, *at), message


def _wrong_product(space: Space, given: Mapping[str, Any], trials: Sequence[Params], index: int) -> Iterator[Problem]:
    """Check that every list is of use."""
    for path in given:
        if path not in space:
            yield ("enqueue", index, path), f"'{path}' is not a parameter of the space{nearest(path, space)}"
        elif not any(path in params for params in trials):
            yield ("enqueue", index, path), f"'{path}' is not searched with any of these values"


def _wrong_trial(space: Space, given: Mapping[str, Any], plain_trial: PlainTrial) -> Iterator[Problem]:
    wrong = list(_wrong_values(space, given))
    yield from wrong
    for spot, message in () if wrong or not given else trial_problems(plain_trial, dict(given)):
        name = next((path for path in reversed(list(given)) if sets(path, spot)), None)
        yield ((name,) if name else ()), naming(name, spot, message)


def _wrong_values(space: Space, given: Mapping[str, Any]) -> Iterator[Problem]:
    kept: Params = {}
    for path, parameter in space.items():
        if not is_active(parameter, kept):
            continue
        if path not in given:
            yield (), f"'{path}' is missing: an enqueued trial names every parameter that is active with its values"
            return
        kept[path] = canonical_value(parameter, given[path])
        if not parameter.contains(kept[path]):
            yield (path,), f"{shown(given[path])} is not in the space: {parameter.values_text()}"
    for path in given:
        if path not in space:
            yield (path,), f"'{path}' is not a parameter of the space{nearest(path, space)}"
        elif path not in kept:
            yield (path,), f"'{path}' is not searched with these values"
