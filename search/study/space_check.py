"""Checks of a space: every bound and choice, the corner points, and the enqueued parameters must make a trial."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Generator, Iterator
from functools import reduce
from typing import Any

from pydantic import ValidationError

from search.files.diagnostics import dotted, problems
from search.files.yaml import Path_
from search.space.parameters import Categorical, Params, Space, active, check_conditions
from search.study.trials import MakeTrial
from trainables.core.errors import SpecError
from trainables.models import MODELS
from trainables.recipes import RECIPES
from trainables.recipes.trial import TrialSpec

MAX_CORNERS = 64
"""How many corner points of a space are tried before it is accepted."""

MAX_EXTREMES = 2_000
"""How many bounds and choices a space may have."""

Problem = tuple[Path_, str]
"""Where in the study something is wrong, and what."""

PlainTrial = Callable[[Params], dict[str, Any]]
"""Returns the trial with given parameters as plain data; raises `SpecError` where a path leads nowhere."""


def wrong_space(space: Space, plain_trial: PlainTrial) -> Iterator[Problem]:
    """Check paths and conditions, and that every bound and choice, and the corner points, make a trial."""
    if unknown := [*_unknown_kinds(space)]:
        yield from unknown
        return
    extremes = sum(len(parameter.extremes()) for parameter in space.values())
    if extremes > MAX_EXTREMES:
        yield ("space",), f"{extremes} bounds and choices, which are checked one by one; {MAX_EXTREMES} are allowed"
        return
    sound = True
    for path in space:
        top, _, rest = path.partition(".")
        if top not in ("recipe", "model") or not all(rest.split(".")):
            sound = False
            hint = "; the protocol is fixed for a study, so that its trials compare" if top == "protocol" else ""
            yield ("space", path), f"'{path}' cannot be searched: parameters start with recipe. or model.{hint}"
    for at, message in check_conditions(space):
        sound = False
        yield ("space", *at), message
    for path, other in itertools.permutations(space, 2):
        if other.startswith(f"{path}.") and path not in space[other].when:
            sound = False
            yield (
                ("space", other),
                f"'{other}' lies inside '{path}'; add `when: {{{path}: ...}}` with the values for which it applies",
            )
    if sound:
        yield from _wrong_trials(space, plain_trial)


def _unknown_kinds(space: Space) -> Iterator[Problem]:
    """Check the kinds among which is searched: conditions on them are wrong for no other reason."""
    for path, known in (("recipe.kind", RECIPES), ("model.kind", MODELS)):
        searched = space.get(path)
        for at, choice in enumerate(searched.choices if isinstance(searched, Categorical) else ()):
            if choice not in known:
                yield ("space", path, "choices", at), known.unknown(choice).message()


def _wrong_trials(space: Space, plain_trial: PlainTrial) -> Iterator[Problem]:
    """Build trials at the corner points of the space and yield each cause once.

    First each extreme by itself, for what is wrong with that value; then combinations of those that are possible, for
    what is wrong between values.
    """
    possible = yield from _wrong_extremes(space, plain_trial)
    yield from _wrong_combinations(space, plain_trial, possible)


def _wrong_extremes(space: Space, plain_trial: PlainTrial) -> Generator[Problem, None, Extremes]:
    """Yield what is wrong with each extreme by itself; return the possible ones."""
    extremes: Extremes = {}
    for path, parameter in space.items():
        possible = {}
        for at, value in parameter.extremes().items():
            found = trial_problems(plain_trial, {**_activating(space, path), path: value})
            own = [(spot, text) for spot, text in found if sets(path, spot)]
            if own and own[0][1].startswith("unknown key"):
                yield ("space", path), own[0][1]
                break
            for spot, message in own:
                yield _position(path, at), naming(path, spot, message)
            if not own:
                possible[at] = value
        if possible:
            extremes[path] = possible
    return extremes


def _wrong_combinations(space: Space, plain_trial: PlainTrial, extremes: Extremes) -> Iterator[Problem]:
    """Yield what is wrong between the values of corner points, each message once."""
    seen: set[str] = set()
    for varied, values in _corners(space, extremes):
        params = active({path: space[path] for path in extremes}, values)
        if not params:
            continue
        for spot, message in trial_problems(plain_trial, params):
            if message in seen:
                continue
            seen.add(message)
            name = next((path for path in reversed(params) if sets(path, spot)), varied)
            extreme = None
            if name is not None:
                extreme = next((at for at, value in extremes[name].items() if value == values[name]), None)
            yield _position(name, extreme), naming(name, spot, message)


Extremes = dict[str, dict[str | int, Any]]
"""The extremes of each parameter, by where they are written."""


def sets(path: str, spot: Path_) -> bool:
    """Return whether a parameter sets the field at `spot` of a trial."""
    return dotted(spot) == path or dotted(spot).startswith(f"{path}.")


def _position(path: str | None, at: str | int | None) -> Path_:
    """Return the path of an extreme of a parameter in the study."""
    if path is None or at is None:
        return ("space", path) if path else ("space",)
    return ("space", path, "choices", at) if isinstance(at, int) else ("space", path, at)


def naming(path: str | None, spot: Path_, message: str) -> str:
    """Prefix a message with the field that it is about, where that is not the parameter's own."""
    return message if not spot or dotted(spot) == path else f"{dotted(spot)}: {message}"


def corner_trials(space: Space, make_trial: MakeTrial) -> Iterator[TrialSpec]:
    """Yield the trials at the corner points of a sound space: with each extreme, and with combinations of extremes."""
    extremes = {path: parameter.extremes() for path, parameter in space.items()}
    for _, values in _corners(space, extremes):
        if params := active(space, values):
            yield make_trial(params)
    if not space:
        yield make_trial({})


def trial_problems(plain_trial: PlainTrial, params: Params) -> list[Problem]:
    try:
        data = plain_trial(params)
    except SpecError as error:
        return [(tuple(next(iter(params)).split(".")), str(error))]
    try:
        TrialSpec.model_validate(data).recipe.phases()
    except ValidationError as error:
        return problems(error, data, TrialSpec)
    return []


def _corners(space: Space, extremes: Extremes) -> Iterator[tuple[str | None, Params]]:
    """Yield combinations of extremes: each one varied while the others stay, then all or a sample of all.

    With each comes the parameter that was varied, None for a combination.
    """
    first = {path: next(iter(values.values())) for path, values in extremes.items()}
    for path, values in extremes.items():
        for value in values.values():
            yield path, {**first, **_activating(space, path), path: value}
    sides = [tuple(values.values()) for values in extremes.values()]
    draw = random.Random(0)
    combinations: Iterator[tuple[Any, ...]] = itertools.product(*sides)
    if reduce(lambda product, side: product * len(side), sides, 1) > MAX_CORNERS:
        combinations = (tuple(draw.choice(side) for side in sides) for _ in range(MAX_CORNERS))
    for combination in combinations:
        yield None, dict(zip(extremes, combination, strict=True))


def _activating(space: Space, path: str) -> Params:
    """Return values of other parameters with which `path` is active, in the order of the space."""
    chosen: Params = {}
    waiting = [path]
    while waiting:
        for other, wanted in space[waiting.pop()].when.items():
            if other not in chosen:
                waiting.append(other)
                chosen[other] = wanted[0]
    return {other: chosen[other] for other in space if other in chosen}
