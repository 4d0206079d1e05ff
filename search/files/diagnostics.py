"""Error messages for files: where, which key, which value, what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from search.files.yaml import ABSENT, Document, Path_, step
from trainables.core import credentials
from trainables.core.errors import SpecError
from trainables.core.registry import Registry, nearest
from trainables.core.spec import Spec

MAX_SHOWN = 20
_FRACTION_BOUNDS = ("less_than", "less_than_equal")


def spec_error(error: ValidationError, document: Document, model: type[Spec]) -> SpecError:
    """Turn a failed validation of `document` as a `model` into one message with a line for each problem."""
    lines = list(
        dict.fromkeys(
            f"{document.where(path)} {dotted(path) or 'the file'}: {message}"
            for path, message in problems(error, document.data, model)
        )
    )
    hidden = error.error_count() - MAX_SHOWN
    return SpecError("\n".join(lines + ([f"... and {hidden} more"] if hidden > 0 else [])))


def refuse_credentials(document: Document) -> None:
    """Refuse a file with keys or passwords in a URI, before anything of it is printed.

    Raises:
        SpecError: with file, line and key, and without the URI.
    """
    for path, text in _texts(document.data, ()):
        if credentials.in_uri(text):
            raise SpecError(f"{document.where(path)} {dotted(path) or 'the file'}: {credentials.ADVICE}")


def _texts(data: Any, path: Path_) -> Iterator[tuple[Path_, str]]:
    """Yield every text in plain data with its path, a key with that of what it is in."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield path, str(key)
            yield from _texts(value, (*path, key))
    elif isinstance(data, (list, tuple)):
        for index, value in enumerate(data):
            yield from _texts(value, (*path, index))
    elif isinstance(data, str):
        yield path, data


def dotted(path: Path_) -> str:
    """Write a path as `a.b[0].c`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def problems(error: ValidationError, data: Any, model: type[Spec]) -> list[tuple[Path_, str]]:
    """Return path and message of every problem; alternatives for one value are joined with `or`."""
    found: dict[Path_, list[str]] = {}
    told = [(_path(details, data), details) for details in error.errors(include_url=False)[:MAX_SHOWN]]
    for path, details in told:
        # A list is also called too short where all that it holds is refused.
        if details["type"] == "too_short" and any(other[: len(path)] == path != other for other, _ in told):
            continue
        messages = found.setdefault(path, [])
        message = _message(details, path, data, model)
        if message not in messages:
            messages.append(message)
    return [(path, _joined(messages)) for path, messages in found.items()]


def _joined(messages: list[str]) -> str:
    """Join the messages of the alternatives of a union, a common beginning once."""
    starts = {message.partition(": ")[0] for message in messages}
    if len(messages) > 1 and len(starts) == 1:
        return f"{starts.pop()}: {' or '.join(message.partition(': ')[2] for message in messages)}"
    return "; ".join(messages)


def _path(details: Any, data: Any) -> Path_:
    """Return the part of an error's location that is in the data; the rest names alternatives of a union."""
    path: list[str | int] = []
    loc = details["loc"]
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        inner = step(data, part)
        if inner is not ABSENT:
            data = inner
        elif not (last and details["type"] in ("missing", "inconsistent")):
            continue
        path.append(part)
    return tuple(path)


def _message(details: Any, path: Path_, data: Any, model: type[Spec]) -> str:
    kind, text, value = details["type"], str(details["msg"]), details["input"]
    if kind == "extra_forbidden":
        known = fields_at(model, data, path[:-1])
        allowed = f" (allowed: {', '.join(known)})" if known else ""
        return f"unknown key{nearest(str(path[-1]), known)}{allowed}"
    if kind == "missing":
        return "this key is required"
    if kind in ("kind_missing", "kind_unknown", "inconsistent"):
        return text
    if kind == "value_error":
        return text.removeprefix("Value error, ")
    if kind == "too_short":
        return f"at least {details['ctx']['min_length']} required"
    text = text.removeprefix("Input ").replace("should be", "must be")
    return f"{shown(value)} is not allowed: {text}{_slip(details)}"


def _slip(details: Any) -> str:
    """Offer a fraction for what looks like a percentage, and the value that a text or an exponent stands for."""
    context, value = details.get("ctx") or {}, details["input"]
    if details["type"] == "int_type" and isinstance(value, float) and value.is_integer() and abs(value) < 1e16:
        return f"; write {int(value)}, without a point or an exponent"
    if details["type"] == "bool_type" and isinstance(value, str):
        return "; write true or false, without quotes"
    if details["type"] in ("int_type", "float_type") and isinstance(value, str):
        return "; write it in digits, without quotes"
    bound = context.get("lt", context.get("le"))
    if details["type"] in _FRACTION_BOUNDS and bound == 1 and isinstance(value, (int, float)) and 1 < value < 100:
        return f"; did you mean {value / 100:g}?"
    return ""


def shown(value: Any) -> str:
    """Write a value in at most 60 characters."""
    short = isinstance(value, float) and float(f"{value:g}") == value
    text = f"{value:g}" if short else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def fields_at(model: type[Spec], data: Any, path: Path_) -> list[str]:
    """Return the names that a spec accepts at `path` of the data it is made from, or none where that is unknown."""
    holders: list[Any] = [(model, ())]
    key: str | int | None = None
    for part in path:
        holders = [inner for holder in holders for inner in _inside(holder, data, part, key)]
        key = part
        data = data.get(part) if isinstance(data, Mapping) else data[int(part)]
    return [name for spec in _specs(holders, data, key) for name in _names(spec)]


def _names(spec: type[Spec]) -> list[str]:
    return [field.alias or name for name, field in spec.model_fields.items()]


def _specs(holders: list[Any], data: Any, key: Any) -> Iterator[type[Spec]]:
    """Yield the spec classes that types with their metadata stand for, given the data that they read and its key."""
    for annotation, metadata in holders:
        registries = [item for item in metadata if isinstance(item, Registry)]
        if registries:
            kind = data.get("kind", key) if isinstance(data, Mapping) else data
            if isinstance(kind, str) and kind in registries[0]:
                yield registries[0][kind]
        elif isinstance(annotation, type) and issubclass(annotation, Spec):
            yield annotation
        elif get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
            yield from _specs([_unwrapped(arm) for arm in get_args(annotation)], data, key)


def _inside(holder: Any, data: Any, part: Any, key: Any) -> Iterator[Any]:
    """Yield the type of member `part` of a type: a field of a spec, a value of a mapping, an item of a list."""
    annotation, _ = holder
    if get_origin(annotation) in (dict, Mapping):
        yield _unwrapped(get_args(annotation)[1])
    elif get_origin(annotation) in (tuple, list):
        yield _unwrapped(get_args(annotation)[0])
    for spec in _specs([holder], data, key):
        for name, field in spec.model_fields.items():
            if part in (name, field.alias):
                yield field.annotation, (*field.metadata,)


def _unwrapped(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Split `Annotated[type, metadata...]`."""
    field = FieldInfo.from_annotation(annotation)
    return field.annotation, tuple(field.metadata)
