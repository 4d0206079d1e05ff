"""The studies of a storage, by name."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from search.files.fields import Name
from search.store.default_storage import DEFAULT_STORAGE as DEFAULT_STORAGE
from search.store.default_storage import STORAGE_VARIABLE as STORAGE_VARIABLE
from search.store.default_storage import arguments as arguments
from search.store.records import Records
from trainables.core import credentials
from trainables.core.errors import SpecError
from trainables.core.registry import nearest
from trainables.core.spec import first_error
from trainables.store.storage import Storage

_NAME: TypeAdapter[str] = TypeAdapter(Name)


def check_name(name: str) -> str:
    """Return a study's name.

    Raises:
        SpecError: it is not a valid name.
    """
    if credentials.in_uri(name):
        raise SpecError(f"the name of a study: {credentials.ADVICE}")
    try:
        return _NAME.validate_python(name)
    except ValidationError as error:
        raise SpecError(first_error(error)) from None


def _is_name(name: str) -> bool:
    try:
        return bool(check_name(name))
    except SpecError:
        return False


def has_study(storage: Storage, name: str) -> bool:
    """Return whether a storage has a study of that name."""
    return _is_name(name) and Records.exist(storage.child(name))


def names(storage: Storage) -> list[str]:
    """Return the names of the studies in a storage."""
    return [name for name in storage.names() if has_study(storage, name)]


def study_storage(storage: Storage, name: str) -> Storage:
    """Return the directory of an existing study, which may have lost its `study.yaml`.

    Raises:
        SpecError: `name` is not a valid name, or there is no such study.
    """
    check_name(name)
    found = storage.child(name)
    if not Records.exist(found):
        known = names(storage)
        listed = f" (stored: {', '.join(known[:10])}{', ...' if len(known) > 10 else ''})" if known else ""
        raise SpecError(f"there is no study '{name}' in {storage.location}{nearest(name, known)}{listed}")
    return found
