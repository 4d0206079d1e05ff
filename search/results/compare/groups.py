"""Which studies are compared: single ones, and groups that are repeats of one search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from search.results.study import Study, open_study
from search.store import catalogue
from trainables.core.errors import SpecError
from trainables.store.storage import Storage


@dataclass(frozen=True)
class Group:
    """The repeats of one search, or a single one, under one label."""

    label: str
    studies: tuple[Study, ...]


def groups_of(storage: Storage, arguments: Iterable[str]) -> list[Group]:
    """Open what the arguments name, each a group: `NAME`, `imp-*`, or with a label `imp=imp-1,imp-2,other-*`.

    Raises:
        SpecError: a study does not exist, nothing matches, or the groups share a study or a label.
        StorageError: the storage cannot be read.
    """
    groups = [_group(storage, argument) for argument in arguments]
    for kind, named in (
        ("label", [group.label for group in groups]),
        ("study", [name_of(study) for group in groups for study in group.studies]),
    ):
        if twice := [name for name, times in Counter(named).items() if times > 1]:
            raise SpecError(f"the {kind} '{twice[0]}' is named twice")
    if sum(len(group.studies) for group in groups) < 2:
        raise SpecError("a comparison needs two studies or more")
    return groups


def name_of(study: Study) -> str:
    """Return the name by which a study was asked for: that of its directory, which a copy has for itself."""
    return study.records.storage.location.rstrip("/").rpartition("/")[2]


def _group(storage: Storage, argument: str) -> Group:
    label, separator, listed = argument.rpartition("=")
    if separator and not label.strip():
        raise SpecError(f"'{argument}' has no label before '='")
    parts = [part.strip() for part in listed.split(",")]
    names = [name for part in parts for name in _matching(storage, part)]
    return Group(label.strip() or listed, tuple(open_study(storage, name) for name in dict.fromkeys(names)))


def _matching(storage: Storage, pattern: str) -> Sequence[str]:
    if "*" not in pattern:
        return [pattern]
    found = [name for name in catalogue.names(storage) if fnmatchcase(name, pattern)]
    if not found:
        known = ", ".join(catalogue.names(storage)[:10])
        raise SpecError(f"no study in {storage.location} is named '{pattern}'{f' (stored: {known})' if known else ''}")
    return found
