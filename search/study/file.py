"""Studies from files: loading with overrides, the built-in studies, and writing a study back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search.files.diagnostics import dotted, refuse_credentials, shown, spec_error
from search.files.plain_data import plain_data
from search.files.yaml import Document, Path_, dump_yaml, parse
from search.files.yaml import load as load_yaml
from search.study.images import wrong_images
from search.study.overrides import apply_overrides
from search.study.spec import StudySpec
from trainables.core import credentials, plugins
from trainables.core.errors import SpecError
from trainables.core.registry import nearest, opaque_kinds

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


def builtin_description(name: str) -> str:
    """Return the description of a built-in study; it is read, not validated, as there are many.

    Raises:
        SpecError: there is none of that name.
    """
    return str(_document(name).data["description"])


def load(study: str | Path, overrides: Sequence[str] = (), notes: list[str] | None = None) -> StudySpec:
    """Read a built-in study by name, or a file, with `key=value` overrides applied before validation.

    Raises:
        SpecError: with file, line, key, value and what is allowed, a line for each problem.
    """
    return from_document(_document(str(study)), overrides, notes)


def loads(text: str, name: str) -> StudySpec:
    """Read a study from YAML text that calls itself `name` in errors.

    Raises:
        SpecError: as `load`.
    """
    return from_document(parse(text, name))


def from_dict(
    data: Mapping[str, Any], name: str = "study", overrides: Sequence[str] = (), notes: list[str] | None = None
) -> StudySpec:
    """Build a study from plain data that calls itself `name` in errors; the data stays as it is.

    Raises:
        SpecError: as `load`, with the key where a file would have line and column.
    """
    return from_document(Document(name, plain_data(data, name)), overrides, notes)


def _document(study: str) -> Document:
    if credentials.in_uri(study):
        raise SpecError(f"the study: {credentials.ADVICE}")
    if study in builtin_names():
        return parse(builtin_text(study), f"{study}.yaml")
    if not os.path.isfile(study) and not study.endswith(_SUFFIXES):
        known = ", ".join(builtin_names())
        hint = nearest(study, builtin_names())
        raise SpecError(f"{shown(study)} is neither a file nor a built-in study{hint} (built in: {known})")
    return load_yaml(study)


def from_document(document: Document, overrides: Sequence[str] = (), notes: list[str] | None = None) -> StudySpec:
    """Apply overrides, import plug-ins and validate; `notes` receives what overrides change besides what they name.

    Raises:
        SpecError: as `load`.
    """
    _check_mapping(document)
    refuse_credentials(document)
    _import_plugins(document)
    said = apply_overrides(document, overrides)
    if notes is not None:
        notes.extend(said)
    _import_plugins(document)
    study = _validated(document)
    if wrong := wrong_images(study):
        raise SpecError("\n".join(f"{document.where(path)} {dotted(path)}: {message}" for path, message in wrong))
    return study


def _check_mapping(document: Document) -> None:
    if not isinstance(document.data, dict):
        raise SpecError(f"{document.name}: a study file is a mapping that begins with 'name: ...'")
    if "cluster_name" in document.data and "provider" in document.data:
        raise SpecError(f"{document.name}: this is a file for Ray's launcher, not a study")


def _validated(document: Document) -> StudySpec:
    try:
        return StudySpec.model_validate(document.data)
    except ValidationError as error:
        raise spec_error(error, document, StudySpec) from None


def from_record(document: Document, *, plugins: bool = False) -> StudySpec:
    """Read the document of a stored study; without `plugins`, none is imported, so that nothing is executed.

    Kinds of plug-ins that this process has not imported are opaque: they keep their fields, and can do nothing.
    Numbers of images that were taken as upper bounds when the study was made are so still.

    Raises:
        SpecError: as `load`.
    """
    _check_mapping(document)
    if plugins:
        _import_plugins(document)
    if plugins or not document.data.get("plugins"):
        return _validated(document)
    with opaque_kinds():
        return _validated(document)


def dump(study: StudySpec) -> str:
    """Write a study as YAML with every default, which reads back as an equal study."""
    return dump_yaml(study.resolved())


def _import_plugins(document: Document) -> None:
    """Import the modules that a study names, so that their kinds are in the registries.

    Raises:
        SpecError: a module cannot be imported.
    """
    names = document.data.get("plugins")
    listed = names if isinstance(names, (list, tuple)) else ()
    # The validation refuses all that is not a name of a plug-in.
    possible = [name for name in listed if isinstance(name, str) and not plugins.name_problem(name)]
    try:
        plugins.load(possible, plugins.current_folder())
    except plugins.PluginError as error:
        index = list(listed).index(error.plugin)
        path: Path_ = ("plugins", index)
        raise SpecError(f"{document.where(path)} plugins[{index}]: {error}") from error
