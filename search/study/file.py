"""Studies from files: loading with overrides, the built-in studies, and writing a study back."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from search.files.diagnostics import refuse_credentials, spec_error
from search.files.yaml import Document, Path_, dump_yaml, parse, parse_value
from search.files.yaml import load as load_yaml
from search.study.spec import StudySpec
from search.study.trials import put
from trainables.core import credentials, plugins
from trainables.core.errors import SpecError
from trainables.core.registry import nearest, opaque_kinds
from trainables.core.spec import plain

_SUFFIXES = (".yaml", ".yml")


def builtin_names() -> list[str]:
    """Return the names of the studies that come with the package, the default first."""
    names = sorted(
        entry.name.removesuffix(".yaml")
        for entry in (resources.files("search.study") / "builtin").iterdir()
        if entry.name.endswith(".yaml")
    )
    return sorted(names, key=lambda name: name != "quickstart")


def builtin_text(name: str) -> str:
    """Return the YAML of a built-in study.

    Raises:
        SpecError: there is none of that name.
    """
    if name not in builtin_names():
        hint = nearest(name, builtin_names())
        raise SpecError(f"there is no built-in study '{name}'{hint} (built in: {', '.join(builtin_names())})")
    return (resources.files("search.study") / "builtin" / f"{name}.yaml").read_text(encoding="utf-8")


def load(study: str | Path, overrides: Sequence[str] = ()) -> StudySpec:
    """Read a built-in study by name, or a file, with `key=value` overrides applied before validation.

    Raises:
        SpecError: with file, line, key, value and what is allowed, a line for each problem.
    """
    return from_document(_document(str(study)), overrides)


def loads(text: str, name: str) -> StudySpec:
    """Read a study from YAML text that calls itself `name` in errors.

    Raises:
        SpecError: as `load`.
    """
    return from_document(parse(text, name))


def from_dict(data: Mapping[str, Any], name: str = "study", overrides: Sequence[str] = ()) -> StudySpec:
    """Build a study from plain data that calls itself `name` in errors; the data stays as it is.

    Raises:
        SpecError: as `load`, with the key where a file would have line and column.
    """
    return from_document(Document(name, copy.deepcopy(dict(data))), overrides)


def _document(study: str) -> Document:
    if credentials.in_uri(study):
        raise SpecError(f"the study: {credentials.ADVICE}")
    if study in builtin_names():
        return parse(builtin_text(study), f"{study}.yaml")
    if not Path(study).is_file() and not study.endswith(_SUFFIXES):
        known = ", ".join(builtin_names())
        hint = nearest(study, builtin_names())
        raise SpecError(f"'{study}' is neither a file nor a built-in study{hint} (built in: {known})")
    return load_yaml(study)


def from_document(document: Document, overrides: Sequence[str] = ()) -> StudySpec:
    """Apply overrides, import plug-ins and validate.

    Raises:
        SpecError: as `load`.
    """
    if not isinstance(document.data, dict):
        raise SpecError(f"{document.name}: a study file is a mapping that begins with 'name: ...'")
    if "cluster_name" in document.data and "provider" in document.data:
        raise SpecError(f"{document.name}: this is a Ray launcher file, no study")
    refuse_credentials(document)
    _import_plugins(document)
    for override in overrides:
        if credentials.in_uri(override):
            raise SpecError(f"--set: {credentials.ADVICE}")
        _apply(document, override)
    _import_plugins(document)
    return _validated(document)


def _validated(document: Document) -> StudySpec:
    try:
        return StudySpec.model_validate(document.data)
    except ValidationError as error:
        raise spec_error(error, document, StudySpec) from None


def from_record(document: Document) -> StudySpec:
    """Read the document of a stored study without executing anything: no plug-in is imported.

    Kinds of plug-ins that this process has not imported are opaque: they keep their fields, and can do nothing.

    Raises:
        SpecError: as `load`.
    """
    if not isinstance(document.data, dict) or not document.data.get("plugins"):
        return from_document(document)
    with opaque_kinds():
        return _validated(document)


def dump(study: StudySpec) -> str:
    """Write a study as YAML with every default, which reads back as an equal study."""
    return dump_yaml(study.resolved())


def _apply(document: Document, override: str) -> None:
    """Set one `key=value` in a document's data.

    Raises:
        SpecError: the override is no assignment, or leads through a value that has no fields.
    """
    label = f"--set {override}:"
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise SpecError(f"{label} write key=value, such as recipe.epochs=20")
    value = parse_value(text, label.removesuffix(":"))
    path = _keys(document.data, parts)
    resolved = {path[0]: _section(document.data, path[0])} if _creates(document.data, path) else None
    try:
        put(document.data, list(path), value, resolved)
    except SpecError as error:
        raise SpecError(f"{label} {error}") from None
    document.positions = {at: place for at, place in document.positions.items() if at[: len(path)] != path}
    document.positions[path] = label


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


def _import_plugins(document: Document) -> None:
    """Import the modules that a study names, so that their kinds are in the registries.

    Raises:
        SpecError: a module cannot be imported.
    """
    names = document.data.get("plugins")
    listed = names if isinstance(names, (list, tuple)) else ()
    # The validation refuses all that is no name of a plug-in.
    possible = [name for name in listed if isinstance(name, str) and not plugins.name_problem(name)]
    try:
        plugins.load(possible, plugins.current_folder())
    except plugins.PluginError as error:
        index = list(listed).index(error.plugin)
        path: Path_ = ("plugins", index)
        raise SpecError(f"{document.where(path)} plugins[{index}]: {error}") from error
