"""The studies that a name can mean: a file, a built-in study, or one in the storage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from search.files import yaml
from search.files.fields import Name
from search.store.records import Records
from search.study import file as study_file
from search.study.spec import StudySpec
from trainables.core.errors import RobustsearchError, SpecError
from trainables.core.registry import nearest
from trainables.store import paths
from trainables.store.storage import Storage

if TYPE_CHECKING:
    from search.results.study import Study, Summary

DEFAULT_STORAGE = "runs"
STORAGE_VARIABLE = "ROBUSTSEARCH_STORAGE"

_NAME: TypeAdapter[str] = TypeAdapter(Name)


def check_name(name: str) -> str:
    """Return a study's name.

    Raises:
        SpecError: it is none.
    """
    try:
        return _NAME.validate_python(name)
    except ValidationError as error:
        raise SpecError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None


def _is_name(name: str) -> bool:
    try:
        return bool(check_name(name))
    except SpecError:
        return False


def names(storage: Storage) -> list[str]:
    """Return the names of the studies in a storage."""
    return [name for name in storage.names() if _is_name(name) and Records.exist(storage.child(name))]


def place(storage: Storage, name: str) -> Storage:
    """Return the directory of an existing study.

    Raises:
        SpecError: `name` is no name, or there is no such study.
    """
    check_name(name)
    found = storage.child(name)
    if not Records.exist(found):
        known = names(storage)
        listed = f" (there: {', '.join(known[:10])}{', ...' if len(known) > 10 else ''})" if known else ""
        raise SpecError(f"there is no study '{name}' in {storage.location}{nearest(name, known)}{listed}")
    return found


def damaged_place(storage: Storage, name: str) -> Storage:
    """Return the directory of a study that may have lost its `study.yaml`.

    Raises:
        SpecError: `name` is no name, or there is no such study.
    """
    found = storage.child(check_name(name))
    return found if found.exists(paths.STUDY_COPY) else place(storage, name)


def open_study(storage: Storage, name: str) -> Study:
    """Open an existing study, read-only.

    Raises:
        SpecError: `name` is no name, there is no such study, or its `study.yaml` is damaged.
        StorageError: the storage cannot be read.
    """
    from search.results.study import Study

    return Study(Records.open(place(storage, name)))


def find(study: str, overrides: Sequence[str], storage: Storage) -> StudySpec:
    """Return what `launch STUDY` runs: a built-in study or a file, else the stored study of that name.

    Raises:
        SpecError: there is none, or it is wrong.
    """
    stored = (
        study not in study_file.builtin_names()
        and not Path(study).exists()
        and _is_name(study)
        and Records.exist(storage.child(study))
    )
    if not stored:
        return study_file.load(study, overrides)
    spec = Records.open(storage.child(study)).spec
    if not overrides:
        return spec
    return study_file.from_document(yaml.parse(study_file.dump(spec), f"{study} as stored"), overrides)


def summaries(storage: Storage) -> tuple[list[Summary], dict[str, str]]:
    """Return where each study of a storage stands, and by name why some cannot be opened."""
    found, broken = [], {}
    for name in names(storage):
        try:
            found.append(open_study(storage, name).summary())
        except RobustsearchError as error:
            broken[name] = str(error)
    return found, broken
