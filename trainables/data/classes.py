"""The classes of a data set: the labels in its files, numbered from 0, and their names."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from trainables.core.errors import DataError
from trainables.data.content import listed, readable

if TYPE_CHECKING:
    import numpy as np

    from trainables.data.base import Data


class Classes(NamedTuple):
    """`values[k]` is the label of class k in the files, `names[k]` its name."""

    values: tuple[int, ...]
    names: tuple[str, ...]


def classes(spec: Data, labels: np.ndarray, names: tuple[str, ...]) -> Classes:
    """Return the classes of training labels: the selected ones, else all that are known or found.

    Raises:
        DataError: a class has no images, there is one class alone, or two have one name.
    """
    if not names or spec.classes not in (None, len(names)):
        names = spec.class_names
    found = _distinct(labels)
    known = spec.classes or len(names)
    if known and found[-1] >= known:
        raise DataError(f"{spec.kind}: a label is {found[-1]}, but the {known} classes are numbered 0 to {known - 1}")
    values = spec.select or (tuple(range(known)) if known else found)
    every = tuple(readable(names[value]) if value < len(names) else str(value) for value in values)
    absent = [f"{value} ({name})" for value, name in zip(values, every, strict=True) if value not in set(found)]
    if absent and spec.select:
        raise DataError(f"{spec.kind}: no image is labelled {listed(absent)}, which is selected")
    if absent and spec.classes is None:
        advice = f"; add images, or use the other classes alone: `select: [{_some(found)}]`" if len(found) > 1 else ""
        raise DataError(f"{spec.kind}: no image is labelled {listed(absent)}, but there are {known} classes{advice}")
    if min(len(values), len(found)) < 2:
        name = every[values.index(found[0])]
        raise DataError(f"{spec.kind}: all images are of one class, {name!r}; classification needs two or more")
    _check_names(spec, every)
    return Classes(values, every)


def remarks(spec: Data, labels: np.ndarray, found: Classes) -> Iterator[str]:
    """Yield lines about classes that are numbered otherwise than in the files, and about those without images."""
    count = len(found.values)
    if not spec.select and found.values != tuple(range(count)):
        yield f"labels {_some(found.values)} are numbered 0 to {count - 1}; their classes are named as the labels"
    present = set(_distinct(labels))
    if absent := [name for value, name in zip(found.values, found.names, strict=True) if value not in present]:
        yield f"{len(absent)} of {count} classes have no images: {listed(absent)}; `select` leaves them out"


def _distinct(labels: np.ndarray) -> tuple[int, ...]:
    import numpy as np

    return tuple(np.unique(labels).tolist())


def numbers(spec: Data, labels: np.ndarray, values: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return which images are of a class, and the numbers of their classes. Shapes: (N,) bool, (kept,) int64.

    Raises:
        DataError: an image is of none, and classes are not selected.
    """
    import numpy as np

    order = np.argsort(values)
    ascending = np.asarray(values, np.int64)[order]
    at = np.minimum(np.searchsorted(ascending, labels), len(values) - 1)
    kept = ascending[at] == labels
    if not kept.all() and not spec.select:
        raise DataError(f"{spec.kind}: no training image has the label {labels[~kept][0]}")
    return kept, order[at[kept]].astype(np.int64)


def _check_names(spec: Data, names: tuple[str, ...]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        normal = unicodedata.normalize("NFC", name).strip()
        if normal in seen:
            raise DataError(f"{spec.kind}: two classes are named {normal!r}; rename or merge them")
        seen[normal] = name


def _some(values: tuple[int, ...] | list[int]) -> str:
    shown = [str(value) for value in values[:10]]
    return ", ".join(shown) + (", ..." if len(values) > 10 else "")
