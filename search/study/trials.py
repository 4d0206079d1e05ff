"""A study's space tried out at its rim: every bound and choice, and combinations of them, must make a trial."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from search.files.diagnostics import dotted, problems, shown
from search.files.yaml import Path_
from search.space.parameters import Categorical, IntRange, Params, Space, active, check_conditions, holds, meant
from trainables.core.errors import SpecError
from trainables.core.registry import nearest
from trainables.core.spec import Spec, plain
from trainables.models import MODELS
from trainables.models.base import Model
from trainables.recipes import RECIPES
from trainables.recipes.base import Recipe
from trainables.recipes.trial import TrialSpec

if TYPE_CHECKING:
    from search.study.spec import StudySpec

MAX_CORNERS = 64
"""How many corners of a space are tried before it is accepted."""

Problem = tuple[Path_, str]


def plain_trial(study: StudySpec, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial as plain data, not yet validated.

    Raises:
        SpecError: a path leads through a value that holds nothing.
    """
    data: dict[str, Any] = {"model": plain(study.model), "recipe": plain(study.recipe)}
    # Kinds come first, the outer before the inner: they say which fields there are.
    for path in sorted(params, key=lambda path: (not path.endswith(".kind"), path.count("."))):
        *within, field = path.split(".")
        if field == "kind":
            _become(data, within, params[path])
        put(data, [*within, field], params[path])
    fixed = {"data": study.data, "protocol": study.protocol, "seed": study.seed, "plugins": study.plugins}
    return {**data, **fixed, "snapshots": rewind_epochs(study.space)}


def _become(data: dict[str, Any], path: list[str], kind: Any) -> None:
    """Drop the fields of the kind that stands at `path` where another takes its place, but for what all kinds have."""
    found: Any = data
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    if isinstance(found, dict) and found.get("kind") != kind:
        bases: dict[str, type[Spec]] = {"recipe": Recipe, "model": Model}
        base = bases.get(".".join(path), Spec)
        for name in found.keys() - base.model_fields.keys():
            del found[name]


def rewind_epochs(space: Space) -> tuple[int, ...]:
    """Return the epochs that some trial of the study may rewind to, whose weights are worth keeping."""
    parameter = space.get("recipe.rewind")
    if isinstance(parameter, IntRange):
        return tuple(range(parameter.low, parameter.high + 1, parameter.step or 1))
    choices = parameter.choices if isinstance(parameter, Categorical) else ()
    return tuple(sorted(choice for choice in choices if isinstance(choice, int) and not isinstance(choice, bool)))


def put(data: dict[str, Any], path: list[str], value: Any, resolved: Mapping[str, Any] | None = None) -> None:
    """Set a value in plain data in place, opening mappings on the way.

    What is not there, or is written shortly (a bare kind), is opened as `resolved` has it in full, where it is given.

    Raises:
        SpecError: the path leads through a value that holds nothing.
    """
    holder = data
    for depth, part in enumerate(path[:-1]):
        inner = holder.get(part)
        resolved = resolved.get(part) if isinstance(resolved, Mapping) else None
        if not isinstance(inner, dict) and isinstance(resolved, Mapping):
            inner = copy.deepcopy(dict(resolved))
        elif inner is None:
            inner = {} if resolved is None else resolved
        elif isinstance(inner, str) and resolved is None:
            inner = {"kind": inner}
        if not isinstance(inner, dict):
            at = ".".join(path[: depth + 1])
            raise SpecError(f"{'.'.join(path)}: {at} is {shown(inner)}, which holds no '{path[depth + 1]}'")
        holder[part] = inner
        holder = inner
    holder[path[-1]] = value


def wrong_space(study: StudySpec) -> Iterator[Problem]:
    """Check paths and conditions, and that every bound and choice, and the corners, make a trial."""
    if unknown := [*_unknown_kinds(study.space)]:
        yield from unknown
        return
    sound = True
    for path in study.space:
        top, _, rest = path.partition(".")
        if top not in ("recipe", "model") or not all(rest.split(".")):
            sound = False
            hint = "; the protocol is fixed for a study, so that its trials compare" if top == "protocol" else ""
            yield ("space", path), f"'{path}' cannot be searched: parameters start with recipe. or model.{hint}"
    for at, message in check_conditions(study.space):
        sound = False
        yield ("space", *at), message
    for path, other in itertools.permutations(study.space, 2):
        if other.startswith(f"{path}.") and path not in study.space[other].when:
            sound = False
            yield (
                ("space", other),
                f"'{other}' lies inside of '{path}'; say with `when: {{{path}: ...}}` where it applies",
            )
    if sound:
        yield from _wrong_trials(study)


def _unknown_kinds(space: Space) -> Iterator[Problem]:
    """Check the kinds among which is searched: conditions on them are wrong for no other reason."""
    for path, known in (("recipe.kind", RECIPES), ("model.kind", MODELS)):
        searched = space.get(path)
        for at, choice in enumerate(searched.choices if isinstance(searched, Categorical) else ()):
            if choice not in known:
                yield ("space", path, "choices", at), known.unknown(choice).message()


def _wrong_trials(study: StudySpec) -> Iterator[Problem]:
    """Build trials at the rim of the space and report each cause once.

    First each extreme by itself, for what is wrong with that value; then combinations of those
    that stand, for what is wrong between values.
    """
    rims: Rims = {}
    for path, parameter in study.space.items():
        kept = {}
        for at, value in parameter.extremes().items():
            found = _trial_problems(study, {**_meeting(study.space, path), path: value})
            own = [(spot, text) for spot, text in found if _sets(path, spot)]
            if own and own[0][1].startswith("unknown key"):
                yield ("space", path), own[0][1]
                break
            for spot, message in own:
                yield _written(path, at), _beside(path, spot, message)
            if not own:
                kept[at] = value
        if kept:
            rims[path] = kept
    seen: set[str] = set()
    for varied, values in _corners(study.space, rims):
        params = active({path: study.space[path] for path in rims}, values)
        for spot, message in _trial_problems(study, params) if params else ():
            name = next((path for path in reversed(params or {}) if _sets(path, spot)), varied)
            if message not in seen:
                seen.add(message)
                extremes = rims[name].items() if name else ()
                places: list[str | int] = [at for at, value in extremes if name and value == values[name]]
                yield _written(name, places[0] if places else None), _beside(name, spot, message)


def wrong_queue(study: StudySpec) -> Iterator[Problem]:
    """Check that each queued trial names the parameters that it has, with values of the space, and can run."""
    for index, given in enumerate(study.enqueue):
        wrong = [(("enqueue", index, *at), message) for at, message in _wrong_values(study.space, given)]
        if not wrong and given in study.enqueue[:index]:
            wrong = [(("enqueue", index), "these are the parameters of an earlier one")]
        yield from wrong
        for spot, message in () if wrong or not given else _trial_problems(study, dict(given)):
            name = next((path for path in reversed(given) if _sets(path, spot)), None)
            yield ("enqueue", index, *([name] if name else [])), _beside(name, spot, message)


def _wrong_values(space: Space, given: Params) -> Iterator[Problem]:
    kept: Params = {}
    for path, parameter in space.items():
        if not holds(parameter, kept):
            continue
        if path not in given:
            yield (), f"'{path}' is missing: a queued trial names all that is searched with its values"
            return
        kept[path] = meant(parameter, given[path])
        if not parameter.contains(kept[path]):
            yield (path,), f"{shown(given[path])} is not in the space: {parameter.extent()}"
    for path in given:
        if path not in space:
            yield (path,), f"'{path}' is no parameter of the space{nearest(path, space)}"
        elif path not in kept:
            yield (path,), f"'{path}' is not searched with these values"


Rims = dict[str, dict[str | int, Any]]
"""The extremes of each parameter, by where they are written."""


def _sets(path: str, spot: Path_) -> bool:
    """Say whether a parameter sets what lies at `spot` of a trial."""
    return dotted(spot) == path or dotted(spot).startswith(f"{path}.")


def _written(path: str | None, at: str | int | None) -> Path_:
    """Return where in the study an extreme of a parameter stands."""
    if path is None or at is None:
        return ("space", path) if path else ("space",)
    return ("space", path, "choices", at) if isinstance(at, int) else ("space", path, at)


def _beside(path: str | None, spot: Path_, message: str) -> str:
    """Name the field that a message is about, where it is not the parameter's own."""
    return message if not spot or dotted(spot) == path else f"{dotted(spot)}: {message}"


def rim_trials(study: StudySpec) -> Iterator[TrialSpec]:
    """Yield trials at the rim of a sound study: with each extreme of each parameter, and with combinations of them."""
    rims = {path: parameter.extremes() for path, parameter in study.space.items()}
    for _, values in _corners(study.space, rims):
        if params := active(study.space, values):
            yield study.trial(params)
    if not study.space:
        yield study.trial({})


def _trial_problems(study: StudySpec, params: Params) -> list[Problem]:
    try:
        data = plain_trial(study, params)
    except SpecError as error:
        return [(tuple(next(iter(params)).split(".")), str(error))]
    try:
        TrialSpec.model_validate(data).recipe.phases()
    except ValidationError as error:
        return problems(error, data, TrialSpec)
    return []


def _corners(space: Space, rims: Rims) -> Iterator[tuple[str | None, Params]]:
    """Yield combinations of extremes: each one varied while the others stay, then all or a sample of all.

    With each comes the parameter that was varied.
    """
    first = {path: next(iter(rim.values())) for path, rim in rims.items()}
    for path, rim in rims.items():
        for value in rim.values():
            yield path, {**first, **_meeting(space, path), path: value}
    sides = [tuple(rim.values()) for rim in rims.values()]
    draw = random.Random(0)
    combinations: Iterator[tuple[Any, ...]] = itertools.product(*sides)
    if reduce(lambda product, side: product * len(side), sides, 1) > MAX_CORNERS:
        combinations = (tuple(draw.choice(side) for side in sides) for _ in range(MAX_CORNERS))
    for combination in combinations:
        yield None, dict(zip(rims, combination, strict=True))


def _meeting(space: Space, path: str) -> Params:
    """Return values of other parameters with which `path` is active, in the order of the space."""
    chosen: Params = {}
    for other, wanted in space[path].when.items():
        chosen = {**chosen, **_meeting(space, other), other: wanted[0]}
    return {other: chosen[other] for other in space if other in chosen}
