"""Overrides of a study: `--set key=value` and `--set ~key`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from search.files.diagnostics import shown
from search.files.yaml import ABSENT, Document, leaves, parse_value, step
from search.study.spec import StudySpec
from search.study.trials import put
from trainables.core import credentials
from trainables.core.errors import SpecError
from trainables.core.registry import nearest
from trainables.core.spec import plain

_ENTRIES = ("space", "objectives", "constraints", "target")
"""Sections whose entries are never null: null removes one."""
_WHOLE = re.compile("[^\0\\ud800-\\udfff]*")


def apply_overrides(document: Document, overrides: Sequence[str]) -> list[str]:
    """Apply `key=value`, which sets a key, and `~key`, which removes one, to a document's data in place.

    Returns what else they change, a line each.

    Raises:
        SpecError: an override is neither, or leads through a value that has no fields.
    """
    fixed: dict[str, str] = {}
    for override in overrides:
        if credentials.in_uri(override):
            raise SpecError(f"--set: {credentials.ADVICE}")
        if not _WHOLE.fullmatch(override):
            raise SpecError(f"--set {shown(override)}: not text in UTF-8")
        if override.startswith("~"):
            _remove(document, override.removeprefix("~"), f"--set {override}:")
        else:
            fixed |= _set(document, override)
    return [*_fix_searched(document, fixed)]


def _fix_searched(document: Document, fixed: Mapping[str, str]) -> Iterator[str]:
    """Take a field that an override sets out of the space, which would set it otherwise in every trial.

    A parameter with a condition stays: where it is not active, the field has the value of the override.
    """
    space = document.data.get("space")
    for path, label in fixed.items():
        parameter = space.get(path) if isinstance(space, dict) else None
        if parameter is None:
            continue
        if isinstance(parameter, dict) and (condition := parameter.get("when")):
            yield (
                f"{label} {path} is still searched in trials with {shown(condition)}; "
                f"add --set '~space.{path}' to fix it in these too"
            )
            continue
        del space[path]
        yield f"{label} {path} is fixed, and no longer searched; set space.{path} to search other values"
        yield from _settle(space, path, _value(document.data, path), label)


def _settle(space: dict[str, Any], path: str, value: Any, label: str) -> Iterator[str]:
    """Take a field that is not searched any more out of the conditions of other parameters, or these out of the space.

    `value` is the field's; ABSENT if it has none in any trial that searched it.
    """
    for other, parameter in list(space.items()):
        conditions = parameter.get("when") if isinstance(parameter, dict) else None
        if not isinstance(conditions, dict) or path not in conditions or other not in space:
            continue
        wanted = conditions[path]
        if value in (wanted if isinstance(wanted, list) else [wanted]):
            rest = {name: condition for name, condition in conditions.items() if name != path}
            space[other] = {key: field for key, field in parameter.items() if key != "when"} | (
                {"when": rest} if rest else {}
            )
        else:
            del space[other]
            yield f"{label} {other} is not searched, as {path} is never {shown(wanted)}"
            yield from _settle(space, other, ABSENT, label)


def _value(data: Any, path: str) -> Any:
    """Return the value of a dotted path; the kind of what is written as its kind alone."""
    for part in path.split("."):
        data = data if isinstance(data, str) and part == "kind" else step(data, _index(data, part))
    return data


def _remove(document: Document, key: str, label: str) -> None:
    """Remove a key of a mapping, which then has its default, or an item of a list.

    Raises:
        SpecError: the document does not have it.
    """
    path: list[Any] = list(_keys(document.data, key.strip().split(".")))
    holder = document.data
    for part in path[:-1]:
        inner = step(holder, _index(holder, part))
        holder = {} if inner is ABSENT else inner
    last = _index(holder, path[-1])
    if step(holder, last) is ABSENT:
        known = nearest(key.strip(), [".".join([*path[:-1], name]) for name in holder]) if holder else ""
        raise SpecError(f"{label} the study does not set '{shown(key.strip()).strip(chr(39))}'{known}")
    del holder[last]
    at = tuple(path[:-1])
    document.positions = {spot: place for spot, place in document.positions.items() if spot[: len(path)] != (*at, last)}
    if isinstance(holder, list):
        document.positions[at] = label


def _index(holder: Any, part: str) -> str | int:
    return int(part) if isinstance(holder, list) and re.fullmatch("[0-9]{1,6}", part) else part


def _set(document: Document, override: str) -> dict[str, str]:
    """Set one `key=value`, and return the override by the path of each field of a trial that it sets.

    Raises:
        SpecError: the override is not an assignment, or leads through a value that has no fields.
    """
    label = f"--set {override}:"
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise SpecError(f"{label} write key=value, such as recipe.epochs=20, or ~key to remove one")
    value = parse_value(text, label.removesuffix(":"))
    path = _keys(document.data, parts)
    if value is None and len(path) == 2 and path[0] in _ENTRIES:
        _remove(document, key, label)
        return {}
    resolved = {path[0]: _section(document.data, path[0])} if _creates(document.data, path) else None
    try:
        put(document.data, list(path), value, resolved)
    except SpecError as error:
        raise SpecError(f"{label} {error}") from None
    document.positions = {at: place for at, place in document.positions.items() if at[: len(path)] != path}
    document.positions[path] = label
    set_paths = [".".join(map(str, at)) for at, _ in leaves(value, path)]
    return dict.fromkeys([*set_paths, *([f"{'.'.join(path)}.kind"] if isinstance(value, str) else [])], label)


def _creates(data: Any, path: tuple[str, ...]) -> bool:
    """Return whether setting a value at `path` needs a mapping that is missing, or written as a bare kind."""
    for part in path[:-1]:
        data = data.get(part)
        if not isinstance(data, dict):
            return True
    return False


def _section(data: Mapping[str, Any], name: str) -> Any:
    """Return a field of a study with all its defaults, as plain data; None where it is unknown or not valid."""
    field = next((field for own, field in StudySpec.model_fields.items() if name in (own, field.alias)), None)
    if field is None:
        return None
    try:
        if name not in data:
            return None if field.is_required() else plain(field.get_default(call_default_factory=True))
        annotation: Any = field.annotation
        for item in field.metadata:
            annotation = Annotated[annotation, item]
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        return plain(adapter.validate_python(data[name]))
    except ValidationError:
        return None  # The validation after all overrides refuses it.


def _keys(data: Any, parts: list[str]) -> tuple[str, ...]:
    """Split a dotted override into keys; a key of the file may itself have dots, as those of `space` do."""
    path: tuple[str, ...] = ()
    while parts:
        known = [n for n in range(len(parts), 0, -1) if isinstance(data, dict) and ".".join(parts[:n]) in data]
        # A new parameter: everything after `space` is its path.
        length = known[0] if known else len(parts) if path == ("space",) else 1
        key = ".".join(parts[:length])
        path, parts = (*path, key), parts[length:]
        data = data.get(key) if isinstance(data, dict) else None
    return path
